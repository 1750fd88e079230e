"""Fine-tune a language model and see, at every step, what it gained, what it lost, and what it makes up.

From Python, `truetune.Run(folder)` reads what a run recorded, and `truetune.runs("logs")` finds the runs.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from truetune.report.run import Run, runs

__version__ = "0.1.0"
__all__ = ("Run", "__version__", "runs")


def __getattr__(name: str) -> Any:
    """Imports a public name when it is asked for: the commands import this file too, and need none of them to start."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from truetune.report import run

    return getattr(run, name)


def __dir__() -> list[str]:
    return [*__all__]
