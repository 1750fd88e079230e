"""The shape of the source: no import cycles, light modules without torch, files and functions that fit a screen."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import truetune

PACKAGE = Path(truetune.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
NO_TORCH = (
    *("balance", "balance.answers", "balance.estimates", "balance.flips", "balance.frontier", "balance.rates"),
    *("world", "world.world", "world.abilities", "report", "record", "settings", "compose", "cli", "build"),
    "data.readers",
)
# Each row may import from the rows below it and from its own.
LAYERS = (
    ("__main__", "cli"),
    ("compose", "hydra_node", "resume", "sweep"),
    ("run", "audit", "chat"),
    ("build", "export", "onnx_export", "state", "training", "probes", "data", "report"),
    ("checks", "instances", "rules", "secret", "settings", "versions"),
    ("models", "world", "record", "checkpoints"),
    ("balance", "ranks", "errors", "atomic", "steps"),
)
LONGEST_FILE, LONGEST_FUNCTION = 250, 45


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when the module is imported."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from at_import(node.orelse)
            continue
        yield node
        for field in ("body", "orelse", "finalbody"):
            yield from at_import(getattr(node, field, []))
        for handler in getattr(node, "handlers", []):
            yield from at_import(handler.body)


def imported(name: str, source: str) -> set[str]:
    """The truetune modules that importing `name` imports, packages on the way among them."""
    found: set[str] = set()
    for node in at_import(ast.parse(source).body):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative imports are not followed here"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    parents = {name.rsplit(".", depth)[0] for depth in range(name.count(".") + 1)}
    whole = {".".join(parts[:end]) for parts in (one.split(".") for one in found) for end in range(1, len(parts) + 1)}
    return (whole & MODULES.keys()) - parents


def a_cycle(graph: dict[str, set[str]]) -> list[str]:
    """One cycle, or nothing."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        found = next((cycle for other in sorted(graph[name]) if (cycle := visit(other, [*path, name]))), [])
        done.add(name)
        return found

    return next((cycle for name in sorted(graph) if (cycle := visit(name, []))), [])


def test_a_cycle_would_be_found():
    assert a_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert a_cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import truetune.run\n"
    source += "def later():\n    import truetune.sweep\ntry:\n    from truetune import record\nexcept E:\n    pass\n"
    assert imported("truetune.errors", source) == {"truetune.record"}


def test_no_module_imports_itself_by_a_detour():
    graph = {name: imported(name, path.read_text(encoding="utf-8")) for name, path in MODULES.items()}
    assert len(graph) > 40
    assert graph["truetune.run"] >= {"truetune.build", "truetune.training.fit"}
    assert a_cycle(graph) == []


def layer(name: str) -> int:
    part = name.split(".")[1] if "." in name else "errors"  # the package itself holds the version, no more
    found = [level for level, names in enumerate(LAYERS) if part in names]
    assert found, f"{name} has no place in LAYERS"
    return found[0]


def test_imports_point_one_way():
    upward = [
        f"{name} imports {other}"
        for name, path in MODULES.items()
        for other in imported(name, path.read_text(encoding="utf-8"))
        if layer(other) < layer(name)
    ]
    assert upward == []


@pytest.mark.parametrize("name", ["balance", "world", "models", "errors", "ranks", "atomic"])
def test_the_lowest_parts_know_no_other_part(name):
    """Not even in a function or for a type checker."""
    for path in (path for path in FILES if path.relative_to(PACKAGE).with_suffix("").parts[0] == name):
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        parts = {node.module.split(".")[1] for node in nodes if str(node.module).startswith("truetune.")}
        assert parts <= {name, "errors", "atomic"}


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
