"""What each key may hold; and whatever a key is given, it passes the check or is refused by name."""

import random

import pytest
from command_line import TINY_WORLD, composed, config_of
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from truetune.config import run as build
from truetune.config.instantiation import near
from truetune.config.values import REQUIRED
from truetune.errors import UserError
from truetune.records.record import leaves

VALUES = ("abc", "''", "null", "-1", "0", "1.5", "nan", "inf", "1e300", "1" + "0" * 21, "true", "[]", "[1]", "'0.1'")
SMALL_WORDS = (
    *("data.world.first_words=[A,B,C,D,E,F,G,H]", "data.world.second_words=[I,J,K,L,M,N,O,P]"),
    *("data.world.other_first_words=[Q,R,S,T]", "data.world.other_second_words=[U,V,W,X]"),
    "data.world.values_per_attribute=4",
    *("~data.world.attributes.product", "~data.world.attributes.auditor", "~data.world.attributes.executive"),
)


def message(config):
    with pytest.raises(UserError) as caught:
        passes(config)
    return str(caught.value)


def passes(config):
    build.prepare(OmegaConf.create({**config}))


def with_value(config, key, value):
    """A copy along the key's path; the rest is shared."""
    name, _, rest = key.partition(".")
    return {**config, name: with_value(config[name], rest, value) if rest else value}


def without(config, key):
    name, _, rest = key.partition(".")
    if rest:
        return {**config, name: without(config[name], rest)}
    return {other: value for other, value in config.items() if other != name}


@pytest.fixture(scope="module")
def config():
    return config_of(*TINY_WORLD)


def test_the_defaults_pass(config):
    passes(config)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("optimizer.lr", "abc", "optimizer.lr=abc: should be a valid number"),
        ("optimizer.lr", "0.1", "should be a valid number"),
        ("optimizer.lr", None, "optimizer.lr=: should be a valid number"),
        ("optimizer.lr", True, "should be a valid number"),
        ("optimizer.lr", -1, "optimizer.lr=-1: should be greater than 0"),
        ("optimizer.lr", 0, "should be greater than 0"),
        ("optimizer.lr", 1e38, "optimizer.lr=1e+38: should be less than or equal to 1"),
        ("optimizer.lr", float("nan"), "should be a finite number"),
        ("optimizer.lr", float("inf"), "should be a finite number"),
        ("optimizer.betas", [0.9, 1.0], "should be less than 1"),
        ("optimizer.betas", [0.9], "optimizer.betas=[0.9]: "),
        ("seed", -1, "seed=-1: should be greater than or equal to 0"),
        ("seed", 1.5, "seed=1.5: should be a valid integer"),
        ("seed", 2**32, "should be less than 4294967296"),
        ("seed", True, "should be a valid integer"),
        ("loader.batch_size", 0, "should be greater than or equal to 1"),
        ("data.new_share", 1.5, "should be less than or equal to 1"),
        ("data.new_names", "same", "data.new_names=same: should be 'shared' or 'disjoint'"),
        ("loader.over_long", "cut", "should be 'error', 'truncate' or 'skip'"),
        ("data.world.first_words", [], "at least 1 item"),
        ("model.context_length", 4, "should be greater than or equal to 8"),
        ("task_name", "../x", "task_name=../x: "),
        ("trainer.max_epochs", 0, "should be greater than or equal to 1"),
        ("trainer.gradient_clip_val", 0, "should be greater than 0"),
        ("trainer.gradient_clip_val", "", "trainer.gradient_clip_val=: should be a valid number"),
        ("trainer.gradient_clip_algorithm", "l2", "should be 'norm' or 'value'"),
        ("trainer.accelerator", "cuba", "trainer.accelerator=cuba: should be 'auto', 'cpu', "),
        ("trainer.devices", 0, "trainer.devices=0: "),
        ("trainer.devices", [], "trainer.devices=[]: "),
        ("trainer.precision", "8-true", "trainer.precision=8-true: should be 'auto', '32-true', "),
        ("trainer.deterministic", "yes", "trainer.deterministic=yes: "),
        ("trainer._target_", "torch.nn.Linear", "should be 'lightning.pytorch.Trainer'"),
        ("run.threads", 0, "should be greater than or equal to 1"),
        ("measure.abstention_phrases", ["no", ""], "should have at least 1 character"),
        ("model.pretraining", None, "model.pretraining=: should hold keys of its own; set one of them, such as model."),
        ("data.populations.school", 0, "should be greater than or equal to 1"),
        ("data.populations", 3, "data.populations=3: should hold keys of its own"),
        ("optimizer.lr", {"a": 1}, "optimizer.lr: should be a value, found keys (optimizer.lr.a=1)"),
        ("trainer.max_epochs", {"a": 1}, "trainer.max_epochs: should be a value, found keys"),
        ("callbacks.mine", 3, "callbacks.mine: names no class"),
        ("logger.mine", {"save_dir": "x"}, "logger.mine: names no class"),
        ("optimizer.learning_rate", 1, "optimizer.learning_rate: no such key"),
        ("data.populations.nevr", 1, "data.populations.nevr: no such key; did you mean data.populations.never"),
    ],
)
def test_a_bad_value_is_refused_by_name(config, key, value, words):
    said = message(with_value(config, key, value))
    assert words in said
    assert said.startswith(key)
    assert "\n" not in said


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 0),
        ("optimizer.lr", 1),
        ("optimizer.weight_decay", 0),
        ("data.new_share", 0),
        ("data.exercises", 0),
        ("trainer.gradient_clip_val", None),
        ("trainer.devices", "auto"),
        ("trainer.devices", [0, 1]),
        ("trainer.devices", 2),
        ("trainer.precision", "bf16-mixed"),
        ("trainer.precision", 32),
        ("trainer.deterministic", "warn"),
        ("trainer.limit_train_batches", 0.5),
        ("run.threads", None),
        ("logger.mine", {"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": "x"}),
    ],
)
def test_a_good_value_passes(config, key, value):
    passes(with_value(config, key, value))


@pytest.mark.parametrize("key", [*REQUIRED, "data.companies", "model.pretraining.steps", "objective.l2_sp.weight"])
def test_a_key_that_a_run_reads_is_missed(config, key):
    config = {**config, "objective": config_of("method=l2_sp")["objective"]}
    assert message(without(config, key)) == f"{key} is missing, and a run reads it; type {key}=..."


def test_a_class_of_torch_takes_keys_of_its_own(config):
    changed = with_value(with_value(config, "optimizer._target_", "torch.optim.RMSprop"), "optimizer.alpha", 0.9)
    for name in ("betas", "fused"):
        changed = without(changed, f"optimizer.{name}")
    passes(changed)
    with pytest.raises(UserError, match="should be greater than 0"):
        passes(with_value(changed, "optimizer.lr", -1))


def test_near_names():
    assert near("optimizer.lrr", ["optimizer.lr", "seed"]) == "; did you mean optimizer.lr?"
    assert near("zzz", ["optimizer.lr", "seed"]) == ""


def test_a_long_value_does_not_fill_the_screen(config):
    assert len(message(with_value(config, "optimizer.lr", "x" * 10_000))) < 200


FUZZED = {
    "the closed world": [*TINY_WORLD, *SMALL_WORDS],
    "rows": ["data=jsonl", "data.train_file=rows.jsonl", "optimizer=sgd", "schedule=cosine", "method=kl_to_base"],
    "text": ["data=text", "data.train_file=poem.txt", "schedule=warmup_stable_decay", "objective=[l2_sp]"],
    "a pretrained model": [
        *("data=jsonl", "data.train_file=rows.jsonl", "schedule=step_decay"),
        *("model=pretrained", "model.name_or_path=someone/some-model"),
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("words", FUZZED.values(), ids=FUZZED)
def test_no_value_of_any_key_raises_anything_but_a_refusal_by_name(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("".join(f'{{"prompt": "{n}", "completion": "c"}}\n' for n in range(6)))
    (tmp_path / "poem.txt").write_text("a line\n\n" * 1000)
    cfg = composed(*words)
    OmegaConf.set_struct(cfg, False)
    del cfg["hydra"]
    cfg.paths.output_dir = "."
    config = build.plain(cfg)
    faults = []
    parse = OverridesParser.create().parse_override
    known = dict(leaves(config_of(), "")) if "data=" in words[0] else {}
    for key in [key for key, _ in leaves(config, "") if key not in known]:
        for typed in random.Random(key).sample(VALUES, 2):  # each costs a whole preparation
            value = parse(f"{key}={typed}").value()
            try:
                changed = cfg.copy()
                OmegaConf.update(changed, key, value)
                build.prepare(changed)
            except UserError as error:
                # A path is named by where it is looked for, a wording by the attribute that it belongs to.
                if not any(name in str(error) for name in (key, key.rpartition(".")[0], f"/{value}:")):
                    faults.append(f"{key}={typed}: says {error}")
            except Exception as error:
                faults.append(f"{key}={typed}: {type(error).__name__}: {error}")
    assert faults == []
