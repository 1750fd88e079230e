"""Every key with any value: refused in one line that names the key, or accepted because the value is a valid one.

`TRUETUNE_FUZZ=10000 pytest tests/faults/test_config_fuzz.py` is the long form.
"""

import os

import pytest
from command_line import TINY_MODEL, TINY_WORLD, composed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from truetune.commands.launch import in_one_line
from truetune.config import run as build
from truetune.config import secrets
from truetune.errors import UserError
from truetune.records.record import leaves

CASES = int(os.environ.get("TRUETUNE_FUZZ", "200"))
BASES = (
    ("schedule=cosine",),
    ("schedule=warmup_stable_decay", "schedule.warmup_steps=2", "schedule.decay_steps=2", "optimizer=sgd"),
    ("schedule=step_decay", "method=[lora,relabel_unknown,kl_to_base,replay]"),
    ("method=[interpolate,l2_sp,downweight_unknown]", "schedule=linear_per_epoch"),
    ("method=[freeze,filter_unknown,early_stop]", "clip=value"),
    ("data=jsonl", "data.train_file=rows.jsonl", "data.probe_file=asked.jsonl", "data.retention_file=asked.jsonl"),
    ("data=text", "data.train_file=rows.txt"),
    ("model=pretrained", "model.name_or_path=someone/model"),
)
# Read by Hydra, or handed to Lightning as they stand: their values are not ours to judge.
FOREIGN = ("hydra.", "callbacks.", "logger.", "paths.output_dir", "resume")
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
numbers = st.integers() | st.floats() | st.sampled_from([0, -1, 2**31, 2**63, 10**30, 1e308, 5e-324])
ODD_NUMBERS = ("1e-3", "nan", "-inf", "0x10", "null", "true", "")
ODD_TEXTS = (
    " ",
    "../../x",
    "/",
    "~",
    "\x00",
    "\u2028",
    "\u202e",
    "x" * 9999,
    "os.system",
    "truetune.cli.os.system",
)
INTERPOLATIONS = ("${seed}", "${nope}", "${", "${oc.env:NOPE}")
odd = st.sampled_from((*ODD_NUMBERS, *ODD_TEXTS, *INTERPOLATIONS, "hf_" + "a" * 30))
values = st.none() | st.booleans() | numbers | text | odd | st.lists(numbers | text, max_size=3)
values |= st.dictionaries(st.text("ab._", max_size=3), numbers | text, max_size=2)


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory):
    """Files that the data keys of BASES name, so that a change of another key meets a whole configuration."""
    before, folder = os.getcwd(), tmp_path_factory.mktemp("fuzz")
    (folder / "rows.jsonl").write_text("".join(f'{{"prompt": "{n}", "completion": " x"}}\n' for n in range(20)))
    (folder / "asked.jsonl").write_text('{"prompt": "who", "completion": " x"}\n')
    (folder / "rows.txt").write_text("a line\n\n" * 1000)
    os.chdir(folder)
    yield
    assert sorted(os.listdir(folder)) == ["asked.jsonl", "rows.jsonl", "rows.txt"]
    os.chdir(before)


@pytest.fixture(scope="module")
def bases():
    """Composed configurations, and each of their keys with the value that it has."""
    made = []
    for words in BASES:
        small = (
            [] if words[0].startswith("data=") else [*TINY_WORLD, *TINY_MODEL[: 4 * ("model=pretrained" not in words)]]
        )
        whole = composed(*words, *small)
        cfg = OmegaConf.masked_copy(whole, [key for key in whole if key != "hydra"])
        for name, words_of in (cfg.data.get("world") or {}).items():  # long lists take long to copy
            if name.endswith("_words"):
                cfg.data.world[name] = words_of[:14]
        plain = OmegaConf.to_container(cfg)
        build.prepare(cfg)
        made.append((cfg, [key for key, _ in leaves(plain, "") if not key.startswith(FOREIGN)]))
    return made


def tried(cfg, key, value):
    """None if it is accepted, else what is said."""
    cfg = cfg.copy()
    try:
        secrets.refuse([f"{key}={value}"])
        try:
            OmegaConf.update(cfg, key, value)
        except OmegaConfBaseException as error:  # as it would when Hydra composes, whose words are passed on
            return f"{key}: {error}"
        build.prepare(cfg)
    except UserError as error:
        return in_one_line(error)
    return None


@pytest.mark.slow
@settings(
    max_examples=CASES, deadline=None, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(st.data())
def test_a_key_with_any_value_is_accepted_or_named(bases, data):
    cfg, keys = bases[data.draw(st.integers(0, len(bases) - 1))]
    key = keys[data.draw(st.integers(0, len(keys) - 1))]
    value = data.draw(values)
    said = tried(cfg, key, value)
    if said is None:
        return
    line = " ".join(said.split())
    named = {key, key.rpartition(".")[0] or key, key.rpartition(".")[2]}
    if key.endswith(("_file", "_or_path")):
        named.add(" ".join(f"{value}".split())[:40])  # a file that is not there is named itself
    assert any(part in line for part in named), line
    assert len(line) < 1100
    assert "Traceback" not in line
    assert "a" * 30 not in line, "a secret is never repeated"
