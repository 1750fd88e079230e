"""What the README files tell a user is what the program takes: commands, keys, choices, metrics, files and links."""

import re
import shlex
import shutil
from itertools import chain
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from command_line import CONF, checked, keys_of_conf
from test_structure import ORDER, PACKAGE

from truetune.commands import launch
from truetune.commands.several_models import expanded
from truetune.config import compose
from truetune.records import record
from truetune.scoring.item import Item
from truetune.scoring.metrics import METRICS

ROOT = CONF.parent
README = ROOT / "README.md"
PAGES = [
    *(README, ROOT / "notebooks" / "README.md", ROOT / "tests" / "README.md"),
    *sorted([*CONF.rglob("README.md"), *(ROOT / "src").rglob("README.md")]),
]
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
# What "write your own" makes up; the classes are made and called below.
MADE_UP = {"my_package/schedules.py", "conf/schedule/inverse.yaml", "conf/objective/entropy.yaml"}
MADE_UP |= {"conf/probe/verbosity.yaml", "schedule=inverse", "objective=entropy", "probe=verbosity"}
STAND_FOR_SOMETHING = ("/path/to", "model=endpoint", "RUN_DIR", "SWEEP_DIR", "TUNED", "owner/name")


def blocks(language):
    return [block for text in TEXTS.values() for block in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)]


def code(text):
    """What is set as code, in a line or in a block, but for Python."""
    text = re.sub(r"```python\n.*?```", "", text, flags=re.DOTALL)
    lines = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return lines + re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)


CODE = {name: code(text) for name, text in TEXTS.items()}
TYPED = sorted(
    {
        re.split(r"\s+#", line)[0].strip()
        for block in blocks("sh")
        for line in block.splitlines()
        if line.startswith("truetune")
    }
)


def table(page, heading):
    """The rows of the first table after a heading, as lists of cells."""
    section = TEXTS[page].partition(heading)[2]
    lines = re.search(r"((?:^\|.*\n)+)", section, re.MULTILINE)
    assert lines, f"{page}: no table after {heading!r}"
    return [[cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in lines[1].splitlines()[2:]]


def test_the_readme_fits_on_a_few_screens():
    assert len(TEXTS["README.md"].encode()) <= 8_000
    lines = TEXTS["README.md"].splitlines()
    assert len(lines) <= 130
    assert max(map(len, lines)) <= 120


def test_the_two_commands_are_one_line_each():
    for name in ("main", "test"):
        block = re.search(rf"<!-- {name} command -->\n```sh\n(.*?)```", TEXTS["README.md"], re.DOTALL)
        assert block
        assert len(block[1].strip().splitlines()) == 1


def test_there_is_something_to_type():
    assert len(TYPED) >= 15


@pytest.mark.parametrize("line", TYPED)
def test_every_command_can_be_typed(line, tmp_path, monkeypatch):
    """Checked in full where nothing stands for a file or folder of the reader's, composed otherwise."""
    monkeypatch.chdir(tmp_path)
    command, *words = shlex.split(line)
    scripts = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("[project.scripts]")[2]
    assert f"\n{command} = " in scripts
    if command not in ("truetune", "truetune-measure"):
        options = [word for word in words if word.startswith("-")]
        assert [word for word in options if f'"{word}"' not in (PACKAGE / "cli.py").read_text(encoding="utf-8")] == []
    elif "models=" in line or "-m model.name_or_path=" in line:
        for name in ("A", "B", "C", "BASE", "out/checkpoint-2", "out/checkpoint-10"):
            shutil.copytree(ROOT / "tests" / "old_runs" / "base", tmp_path / name)
        (tmp_path / "FILE.jsonl").write_text('{"question": "Who leads it?", "answers": ["Ann"]}\n')
        launch.checked(expanded([word.replace("=FILE", "=FILE.jsonl") for word in words]), "measure")
    elif any(word in line for word in STAND_FOR_SOMETHING):
        arguments = compose.parse(words)
        compose.compose(CONF, arguments.overrides, arguments, "measure" if command.endswith("measure") else "train")
    else:
        checked(*words)


def test_every_key_exists():
    groups = sorted({key.partition(".")[0] for key in keys_of_conf()})
    names = rf"(?<![\w./+-])((?:{'|'.join(groups)})\.[a-z_.]+)(?![\w/(]|\.\w)"
    keys = {key for piece in chain.from_iterable(CODE.values()) for key in re.findall(names, piece)}
    keys = {key for key in keys if key.rpartition(".")[2] not in ("json", "py", "yaml", "parquet", "jsonl", "md")}
    assert len(keys) > 30
    every = keys_of_conf()
    every |= {f"baseline.{key.removeprefix('model.')}" for key in every if key.startswith("model.")}
    assert {key for key in keys if not any(f"{known}.".startswith(f"{key}.") for known in every)} == set()


def test_every_choice_exists():
    groups = [path.relative_to(CONF).as_posix() for path in CONF.rglob("*") if path.is_dir()]
    words = rf"(?<![\w./+-])({'|'.join(groups)})=(\[[\w,]+\]|\w+(?:,\w+)*)"
    chosen = [match for piece in chain.from_iterable(CODE.values()) for match in re.findall(words, piece)]
    choices = {f"{group}={name}" for group, names in chosen for name in names.strip("[]").split(",")}
    assert len(choices) > 40
    missing = {one for one in choices if not (CONF / f"{one.replace('=', '/')}.yaml").is_file()}
    assert missing - {"measure=null"} <= MADE_UP


@pytest.mark.parametrize("name", TEXTS)
def test_every_link_and_file_exists(name):
    page = ROOT / name
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)\)", TEXTS[name])
    assert [link for link in links if not (page.parent / link).exists()] == []
    ending = r"(?<![\w./<-])((?:[\w.-]+/)+[\w.-]*\.(?:py|yaml|ipynb|toml|md))\b"
    files = {file for piece in CODE[name] for file in re.findall(ending, piece)} - MADE_UP
    places = (page.parent, ROOT, PACKAGE)
    assert {file for file in files if not any((place / file).exists() for place in places)} == set()


def test_every_metric_named_is_reported():
    probes = "|".join(sorted({name.partition("/")[0] for name in METRICS}))
    pieces = chain.from_iterable(CODE.values())
    names = {name for piece in pieces for name in re.findall(rf"\b((?:{probes})/[a-z]\w+)", piece)}
    assert len(names) >= len(METRICS)
    assert {name for name in names if name not in METRICS} == set()


def test_the_metrics_are_those_of_the_table():
    rows = [
        [f"`{name}`", metric.label, metric.direction or "neither", metric.definition]
        for name, metric in METRICS.items()
    ]
    assert table("src/truetune/scoring/README.md", "## Metrics") == rows


def test_what_is_logged_is_logged_under_that_name():
    source = "".join(path.read_text(encoding="utf-8") for path in (PACKAGE / "training").glob("*.py"))
    names = {name for piece in CODE["src/truetune/training/README.md"] for name in re.findall(r"train/\w+", piece)}
    assert len(names) >= 5
    assert {name for name in names if name.partition("/")[2] not in source} == set()


def test_every_group_method_and_extension_has_its_row():
    groups = {row[0].strip("`") for row in table("conf/README.md", "# conf")}
    assert groups == {path.relative_to(CONF).as_posix() for path in CONF.rglob("*") if path.is_dir()}
    methods = {path.stem for path in (CONF / "method").glob("*.yaml")}
    for heading in ("## What each does and costs", "## What each keeps"):
        assert {row[0].strip("`") for row in table("conf/method/README.md", heading)} == methods
    extensions = table("src/truetune/extensions/README.md", "# extensions")
    listed = {re.sub(r"\[(\w+)\.py\].*", r"\1", row[0]): row[1] for row in extensions}
    assert set(listed) == {path.stem for path in (PACKAGE / "extensions").glob("*.py")} - {"__init__"}
    for module, words in listed.items():
        for choice in re.findall(r"`([\w=]+)`", words):
            assert f"truetune.extensions.{module}." in (CONF / f"{choice.replace('=', '/')}.yaml").read_text("utf-8")


def test_the_tree_is_the_tree():
    tree = re.search(r"## The tree\n\n```\n(.*?)```", TEXTS["README.md"], re.DOTALL)
    assert tree
    entries = [re.match(r"( *)(\S+)  +\S|( *)(\S+)$", line) for line in tree[1].splitlines()]
    names = [(match[1] or "") + (match[2] or match[4]) for match in entries if match]
    assert len(names) == len(entries)
    inside = [name.strip() for name in names if name.startswith(" ")]
    assert inside == ["cli.py", "errors.py", *(f"{wing}/" for wing in ORDER[1:-1])]
    assert [name for name in names if not name.startswith(" ") and not (ROOT / name).is_dir()] == []


def test_the_contract_names_every_key_of_a_record():
    contract = TEXTS["src/truetune/records/README.md"].partition("## run.json is a public contract")[2]
    assert set(record.KEYS) <= set(re.findall(r"`(\w+)`", contract.partition("\n## ")[0]))


def test_a_run_can_be_read_from_python(monkeypatch, capsys):
    monkeypatch.chdir(ROOT / "tests")
    (block,) = re.findall(r"```python\n(.*?)```", TEXTS["src/truetune/records/README.md"], re.DOTALL)
    exec(block.replace('"logs"', '"old_runs/closed_world"'), {})
    assert "Task questions right" in capsys.readouterr().out


def test_the_examples_can_be_made_and_called():
    made: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", TEXTS["src/truetune/extensions/README.md"], re.DOTALL):
        names: dict[str, Any] = {"__name__": "my_package"}
        exec(block, names)
        made |= names
    assert made["Inverse"](scale=100)(made["Progress"](100, 10, 20, 2), 1.0) == 0.5
    labels = torch.tensor([[-100, 1, 2]])
    micro = made["Micro"](None, torch.zeros(1, 3, 4), labels, labels, labels, labels)
    torch.testing.assert_close(made["Entropy"](weight=1.0)(micro), 2 * torch.tensor(4.0).log())
    items = [Item("1", "?", ("a",), "a", "right"), Item("2", "?", ("a",), "a b c", "wrong")]
    asking: Any = SimpleNamespace(ask=lambda *_: items)
    measured = made["Verbosity"](asking).measure(None, SimpleNamespace(task=[]))
    assert measured.metrics["verbosity/words_per_answer"].value == 2
