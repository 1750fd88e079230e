"""What the README tells a user to type is what the program takes."""

import re
import shlex

import pytest
from command_line import CONF, checked, keys_of_conf

from truetune.records import record
from truetune.scoring.metrics import METRICS

README = (CONF.parent / "README.md").read_text(encoding="utf-8")
TYPED = [
    line.partition("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if re.match(r"truetune( |$)", line)
]


def test_there_is_something_to_type():
    assert len(TYPED) >= 8


@pytest.mark.parametrize("line", [line for line in TYPED if "/path/to" not in line])
def test_every_command_passes_the_checks(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checked(*shlex.split(line)[1:])


def test_every_metric_named_is_reported():
    table = README.partition("## What is measured")[2].partition("## ")[0]
    named = set(re.findall(r"`([a-z_]+/\w+)`", table))
    assert named
    assert named - {"val/score"} <= set(METRICS)  # that one chooses, and is not reported


def test_the_contract_names_every_key_of_a_record():
    contract = README.partition("`run.json` is a public contract")[2].partition("\n\n")[0]
    assert set(record.KEYS) <= set(re.findall(r"`(\w+)`", contract))


def test_the_two_commands_are_one_line_each():
    for name in ("main", "test"):
        block = re.search(rf"<!-- {name} command -->\n```sh\n(.*?)```", README, re.DOTALL)
        assert block
        assert len(block[1].strip().splitlines()) == 1


def test_every_key_named_exists():
    keys = set(re.findall(r"`((?:trainer|data|loader|measure|knowledge|run|optimizer|model)\.[a-z_.]+)`", README))
    assert keys
    assert keys - keys_of_conf() == {"run.json"}
