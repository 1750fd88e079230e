"""Every file under conf/ is a choice that works, and what values.py says of a key is said of one that there is."""

import pytest
from command_line import CONF, TINY_WORLD, checked, composed, config_of, keys_of_conf, refusal, typed

from truetune.commands.launch import with_data
from truetune.config import compose
from truetune.config.values import KEYS, REQUIRED
from truetune.models.pretrained import Pretrained
from truetune.records.record import leaves

FILES = sorted(CONF.rglob("*.yaml"))
PRIMARY = (CONF / "train.yaml", CONF / "measure.yaml")  # what a command starts from; all else is a choice
# Refused by `truetune`: tests/commands/test_measure.py, tests/extensions/test_endpoint.py
ONLY_MEASURED = ("data=questions", "model=endpoint", "baseline=pretrained", "baseline=endpoint", "baseline=gguf")
REFUSED = ("model=qlora",)  # tests/models/test_quantised.py
# A file of weights or a server is needed: tests/extensions/test_gguf.py, tests/extensions/test_pairwise.py
FETCHED = ("model=gguf", "model=smollm2", "judging=pairwise")
REAL = ("gentle", "real_model", "real_form", "real_new_facts", "real_clipping", "real_methods")
NEEDED = {
    "data=jsonl": ["data.train_file=rows.jsonl"],
    "data=text": ["data.train_file=poem.txt"],
    "data=hub": ["data.name=./hub"],  # the library takes a folder for a data set, too
    **{f"experiment={name}": ["model=tiny"] for name in REAL},  # their own would be fetched
    "model=pretrained": ["model.name_or_path=someone/some-model", *TINY_WORLD],
}


@pytest.fixture(autouse=True)
def folder(folder, tmp_path, monkeypatch):
    """With data files."""
    (tmp_path / "rows.jsonl").write_text("".join(f'{{"prompt": "{n}", "completion": " x"}}\n' for n in range(8)))
    (tmp_path / "poem.txt").write_text("a line of a poem\n\n" * 500)
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "train.jsonl").write_text((tmp_path / "rows.jsonl").read_text())
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    return tmp_path


def choices():
    """Each file as it is typed: `group=name`, for a nested group `data/world=people`."""
    files = [path.relative_to(CONF) for path in FILES if path not in PRIMARY]
    return [f"{path.parent.as_posix()}={path.stem}" for path in files]


def words_for(choice):
    group = choice.partition("=")[0]
    small = [] if group == "data" else [*TINY_WORLD, "loader.batch_size=4"]  # a schedule needs some steps
    return [choice, *NEEDED.get(choice, small)]


def test_no_file_is_forgotten():
    assert len(choices()) == len(FILES) - len(PRIMARY) > 40


@pytest.mark.parametrize(
    "choice", [choice for choice in choices() if choice not in (*ONLY_MEASURED, *REFUSED, *FETCHED)]
)
def test_every_file_composes_and_passes_the_checks(choice):
    if choice == "launcher=submitit":
        pytest.importorskip("submitit", reason="of the extra [slurm]; without it: tests/test_sweep.py")
    if choice in ("logger=wandb", "logger=mlflow"):
        pytest.importorskip(choice.partition("=")[2], reason="of no extra; without it: tests/training/test_loggers.py")
    prepared = checked(*words_for(choice))
    assert len(prepared.data.train) > 0


@pytest.mark.slow
@pytest.mark.parametrize("choice", [choice for choice in choices() if choice.startswith("experiment=")])
def test_every_value_that_an_experiment_sweeps_over_passes_the_checks(choice):
    arguments = compose.parse([choice])
    swept = compose.compose(CONF, [choice], arguments).hydra.sweeper.params or {}
    for key, values in swept.items():
        for value in values.split(",") if key != "seed" else ["0"]:
            small = NEEDED.get(choice, [] if key == "data.new_share" else TINY_WORLD)
            checked(choice, f"{key}={value}", *small)


def test_the_main_job_is_the_closed_world():
    assert len(checked().data.train) == 200 * 4 * 2


def test_a_chosen_file_is_what_the_run_gets():
    pretrained = checked("model=pretrained", *NEEDED["model=pretrained"]).builder
    assert pretrained == Pretrained("someone/some-model")
    assert list(config_of("objective=[next_token,l2_sp]")["objective"]) == ["next_token", "l2_sp"]
    assert list(config_of("method=kl_to_base")["objective"]) == ["next_token", "kl_to_base"]
    assert config_of("callbacks=none").get("callbacks", {}) == {}


def test_every_key_with_a_value_of_its_own_is_a_key_that_conf_has():
    assert {*KEYS, *REQUIRED} - keys_of_conf() == {"allow"}


OVERRIDES = [
    ("seed=7", "seed", 7),
    ("seed=7", "data.seed", 7),
    ("model.seed=3", "model.seed", 3),
    ("optimizer=sgd", "optimizer.momentum", 0.9),
    ("optimizer.lr=3e-4", "optimizer.lr", 3e-4),
    ("schedule=cosine", "schedule.lr_end", 0.0),
    ("trainer=cpu", "trainer.accelerator", "cpu"),
    ("trainer.precision=bf16-mixed", "trainer.precision", "bf16-mixed"),
    ("+trainer.limit_val_batches=3", "trainer.limit_val_batches", 3),
    ("debug=overfit", "trainer.overfit_batches", 3),
    ("debug=overfit", "task_name", "debug"),
    ("data.populations.never=12", "data.populations.never", 12),
    ("data.new_share=0", "data.new_share", 0),
    ("data.world.attributes.auditor.endings=[x]", "data.world.attributes.auditor.endings", ["x"]),
    ("model.pretraining.steps=60", "model.pretraining.steps", 60),
    ("objective.next_token.weight=0.5", "objective.next_token.weight", 0.5),
    ("callbacks.model_checkpoint.mode=min", "callbacks.model_checkpoint.mode", "min"),
    ("run.threads=2", "run.threads", 2),
    ("measure.abstention_phrases=[pass]", "measure.abstention_phrases", ["pass"]),
    ("paths.log_dir=elsewhere", "paths.cache_dir", "elsewhere/cache"),
]


def test_overrides_arrive_and_a_choice_replaces_its_group():
    changed = dict(leaves(config_of(*dict.fromkeys(word for word, _, _ in OVERRIDES)), ""))
    before = dict(leaves(config_of(), ""))
    for word, key, value in OVERRIDES:
        assert before.get(key) != value, word
        assert changed[key] == value, word
    assert "optimizer.betas" in before
    assert "optimizer.betas" not in changed


def test_a_setting_reaches_the_data_and_the_model():
    prepared = checked(*TINY_WORLD, "data.new_share=0", "model.layers=3", "seed=5")
    assert {row.id.split("/")[0] for row in prepared.data.train} == {"known-train"}
    assert (prepared.builder.layers, prepared.builder.seed) == (3, 5)
    assert prepared.data.train != checked(*TINY_WORLD, "data.new_share=0", "seed=6").data.train


@pytest.mark.parametrize(
    ("words", "value", "algorithm"),
    [
        ([], 1.0, "norm"),
        (["clip=norm"], 1.0, "norm"),
        (["clip=value"], 0.1, "value"),
        (["clip=none"], None, "norm"),
        (["clip=value", "trainer.gradient_clip_val=0.5"], 0.5, "value"),
        (["trainer.gradient_clip_algorithm=value"], 1.0, "value"),
    ],
)
def test_clipping_is_what_the_words_say(words, value, algorithm):
    trainer = config_of(*words)["trainer"]
    assert (trainer["gradient_clip_val"], trainer["gradient_clip_algorithm"]) == (value, algorithm)


def test_clipping_by_value_needs_a_value():
    words = refusal("clip=none", "trainer.gradient_clip_algorithm=value")
    assert words == "trainer.gradient_clip_algorithm=value needs trainer.gradient_clip_val; type clip=value"


def test_the_reference_defaults():
    config = config_of("experiment=reference_defaults")
    assert config["trainer"]["gradient_clip_val"] == 1.0
    assert config["trainer"]["gradient_clip_algorithm"] == "norm"
    assert config["trainer"]["max_epochs"] == 10
    assert config["optimizer"]["_target_"] == "torch.optim.AdamW"
    assert config["optimizer"]["lr"] == 0.001
    assert config["schedule"]["_target_"] == "truetune.training.schedules.LinearPerEpoch"


def test_logs_go_where_the_environment_says(monkeypatch):
    monkeypatch.setenv("TRUETUNE_LOGS", "/somewhere")
    assert composed().paths.cache_dir == "/somewhere/cache"


def test_a_run_and_a_sweep_write_below_the_log_folder():
    cfg = composed("task_name=mine", "paths.log_dir=/somewhere")
    assert cfg.hydra.run.dir.startswith("/somewhere/mine/runs/")
    assert cfg.hydra.sweep.dir.startswith("/somewhere/mine/multiruns/")


@pytest.mark.parametrize("key", ["optimizer.lr", "paths.log_dir", "data.world.noun"])
def test_a_missing_environment_variable_is_named(key, folder):
    result = typed(f"{key}=${{oc.env:TRUETUNE_TEST_NOT_SET}}", cwd=folder)
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("error: ")
    assert "TRUETUNE_TEST_NOT_SET" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("command", "words", "added"),
    [
        ("train", ["data.train_file=a.jsonl"], "data=jsonl"),
        ("train", ["-m", "data.train_file=a.csv,b.csv", "seed=1"], "data=jsonl"),
        ("train", ["data.train_file='book.txt'"], "data=text"),
        ("train", ["data=hub", "data.train_file=a.jsonl"], None),
        ("train", ["experiment=mine", "data.train_file=a.jsonl"], None),
        ("train", ["data.probe_file=a.jsonl"], None),
        ("measure", ["data.probe_file=a.jsonl"], "data=questions"),
        ("measure", ["data.probe_file=a.jsonl", "data=jsonl"], None),
    ],
)
def test_a_file_of_rows_brings_its_data_source_and_that_is_said(command, words, added, capsys):
    place = next(i for i, word in enumerate(words) if "_file=" in word)
    assert with_data(words, command) == [*words[:place], *([added] if added else []), *words[place:]]
    assert (f"is a key of {added}, which is added" in capsys.readouterr().err) == bool(added)
