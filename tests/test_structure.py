"""The shape of the source: one order of the packages, no cycles, light modules, files that fit a screen."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import truetune

PACKAGE = Path(truetune.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
NO_TORCH = (
    *("scoring", "scoring.answers", "scoring.estimates", "scoring.lost_and_kept", "scoring.balance", "scoring.rates"),
    *("data.world", "data.rows.read", "records.record", "records.disk", "records.files"),
    *("config.compose", "config.run", "commands.report", "commands.compare", "report.run", "cli"),
)
# Each may import from those to its right. The one way up is a `_target_` that a YAML names.
ORDER = (
    *("cli", "commands", "config", "report", "extensions", "methods", "training"),
    *("probes", "models", "data", "records", "scoring", "errors"),
)
TOP = {"__init__.py", "__main__.py", "cli.py", "errors.py", *ORDER[1:-1]}
STILL_UPWARD: set[str] = set()
STILL_A_CIRCLE: set[str] = set()
LONGEST_FILE, LONGEST_FUNCTION = 250, 45


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def imported(name: str, source: str) -> set[str]:
    """The truetune modules that `name` imports, inside functions and for the type checker too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative imports are not followed here"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    longest = (".".join(parts[:end]) for parts in (one.split(".") for one in names) for end in range(1, len(parts) + 1))
    modules = {one for one in longest if one in MODULES and MODULES[one].name != "__init__.py"}
    return modules - {name}


def edges() -> Iterator[tuple[str, str]]:
    for name, path in MODULES.items():
        for other in sorted(imported(name, path.read_text(encoding="utf-8"))):
            yield name, other


def a_cycle(graph: dict[str, set[str]]) -> list[str]:
    """One cycle, or nothing."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        cycle = next((cycle for other in sorted(graph[name]) if (cycle := visit(other, [*path, name]))), [])
        done.add(name)
        return cycle

    return next((cycle for name in sorted(graph) if (cycle := visit(name, []))), [])


def rank(name: str) -> int:
    part = name.split(".")[1] if "." in name else "cli"  # `truetune.Run` and the like, for those outside only
    return ORDER.index({"__main__": "cli"}.get(part, part))


def test_imports_are_found_wherever_they_stand():
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import truetune.cli\n"
    source += "def later():\n    from truetune.records import record\n    from truetune.errors import UserError\n"
    assert imported("truetune.x", source) == {"truetune.cli", "truetune.records.record", "truetune.errors"}


def test_a_cycle_would_be_found():
    assert a_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert a_cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_the_top_level_shows_the_commands_and_the_wings_only():
    assert {path.name for path in PACKAGE.iterdir() if path.name not in ("__pycache__", "conf", "py.typed")} == TOP


def test_imports_point_one_way():
    upward = {f"{name} imports {other}" for name, other in edges() if rank(other) < rank(name)}
    assert upward == STILL_UPWARD


def test_only_the_version_is_imported_from_the_package_itself():
    nodes = (node for path in FILES for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module == "truetune"]
    names = {alias.name for node in imports for alias in node.names} - {name.split(".")[-1] for name in MODULES}
    assert names == {"__version__"}


def test_each_extension_is_named_by_one_yaml_and_the_core_imports_none():
    """So one goes by deleting its file and its YAML."""
    named_in = {}
    for path in (PACKAGE.parents[1] / "conf").rglob("*.yaml"):
        for name in re.findall(r"truetune\.extensions\.\w+", path.read_text(encoding="utf-8")):
            named_in.setdefault(name, set()).add(path)
    files = {name for name in MODULES if name.startswith("truetune.extensions.")}
    assert {name: len(paths) for name, paths in named_in.items()} == dict.fromkeys(files, 1)
    assert [(name, other) for name, other in edges() if other in files and name not in files] == []


def test_no_module_imports_itself_by_a_detour():
    graph: dict[str, set[str]] = {name: set() for name in MODULES}
    for name, other in edges():
        if f"{name} imports {other}" not in STILL_UPWARD | STILL_A_CIRCLE:
            graph[name].add(other)
    assert sum(map(len, graph.values())) > 200
    assert a_cycle(graph) == []


def test_importing_the_package_imports_nothing_else():
    script = "import sys; import truetune; print({name.partition('.')[0] for name in sys.modules} & set(sys.argv[1:]))"
    names = ("numpy", "torch", "lightning", "transformers", "hydra", "rich", "pandas")
    done = subprocess.run([sys.executable, "-c", script, *names], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_light_modules_import_no_torch():
    """Imported one after the other in one process; the first that brings torch along is named."""
    script = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(f'truetune.{name}')\n"
        "    if heavy := {'torch', 'lightning', 'transformers'} & set(sys.modules):\n"
        "        sys.exit(f'{name} imports {sorted(heavy)}')\n"
        "print(sum(name.startswith('truetune') for name in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, *NO_TORCH], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > len(NO_TORCH)


@pytest.mark.parametrize("path", FILES, ids=lambda path: module_name(path))
def test_files_and_functions_are_short(path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= LONGEST_FILE
    functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    lengths = {f"{node.name}:{node.lineno}": (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}
