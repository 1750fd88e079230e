"""Rules that concern several keys at once; each refusal names them. A rule of one class alone is in that class."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from truetune.config import sharded
from truetune.config.instantiation import missing, near, no_such_key, of_the_template, validate
from truetune.config.values import KEYS, REQUIRED
from truetune.data.rows.many import attributes
from truetune.errors import UserError
from truetune.scoring.answers import normalise
from truetune.scoring.metrics import METRICS
from truetune.training.schedules import Steps, batches_per_epoch, steps_per_epoch

if TYPE_CHECKING:
    from truetune.data.dataset import Dataset, Question

Command = Literal["train", "measure"]
NAMES: dict[Command, str] = {"train": "truetune", "measure": "truetune-measure"}
NEEDED: dict[Command, tuple[str, ...]] = {
    "train": (
        *("data", "loader", "model", "objective", "optimizer", "schedule", "trainer"),
        *("probe", "paths", "measure", "asking", "knowledge", "run"),
    ),
    "measure": ("data", "model", "baseline", "probe", "paths", "measure", "asking", "run"),
}
COLLECTIONS = ("objective", "probe", "curation", "adaptation", "decoding", "callbacks", "logger")  # objects by name


def keys(config: Mapping[str, Any], command: Command, words: Sequence[str] = ()) -> list[str]:
    """Checks what needs no class to be imported: which keys there are, and the values of those in values.py.

    A key that one of the `words` adds by a + is the user's own: it is recorded, and nothing reads it. Returns notes.
    """
    plus_words = [word.lstrip("+") for word in words if word.startswith("+")]
    own_keys = {word.partition("=")[0].partition(".")[0] for word in plus_words} - {"extras"}
    notes: list[str] = []
    if command == "train" and "baseline" in config:
        raise UserError("baseline: a run measures its own base; truetune-measure compares any two models")
    groups = {*NEEDED["train"], *NEEDED["measure"], *COLLECTIONS, "battery", "gate", "judging"}
    top_keys = sorted({key.partition(".")[0] for key in KEYS} | groups)
    for key, value in config.items():
        if key not in top_keys and (key not in own_keys or of_the_template(key, value)):
            raise UserError(no_such_key(key, top_keys, value))
        if key not in top_keys and (similar := near(key, top_keys)):
            notes.append(f"+{key}: recorded as a key of your own, which nothing reads{similar}")
        members: Mapping[str, Any] = value if isinstance(value, Mapping) and key not in KEYS else {}
        for name, inner in {key: value, **{f"{key}.{name}": inner for name, inner in members.items()}}.items():
            if name in KEYS:
                validate(name, inner)
            elif key == "paths" and name != key:
                raise UserError(no_such_key(name, list(KEYS), inner))
    for group in (*NEEDED[command], *COLLECTIONS):
        if not config.get(group) and group in NEEDED[command]:
            raise UserError(f"{group}: nothing is chosen; type {group}=... ({NAMES[command]} --help lists the choices)")
        if not isinstance(config.get(group) or {}, Mapping):
            raise UserError(f"{group}={config[group]}: should hold keys of its own")
    for key in REQUIRED:
        group, _, name = key.rpartition(".")
        if command == "train" and name not in (config[group] if group else config):
            raise UserError(missing(key))
    if command == "measure" and "pretraining" in config["model"]:
        raise UserError("model: is made by a run, so that there is nothing to measure yet; leave model=... out")
    return notes


def together(config: Mapping[str, Any], data: Dataset, objects: Mapping[str, Any]) -> list[str]:
    """Checks whether the configured objects go together, and the rules below; returns notes."""
    members, notes = {name for group in COLLECTIONS for name in config.get(group) or {}}, list[str]()
    for key, item in objects.items():
        for other in members.intersection(getattr(item, "conflicts", ())):
            raise UserError(f"method: {key.rpartition('.')[2]} and {other} contradict each other; choose one of them")
    for item in objects.values():
        notes += item.check(config, data) if hasattr(item, "check") else ()
    if "trainer" not in config:
        if config["model"].get("init") == "meta":
            raise UserError("model.init=meta is for training with trainer=fsdp; leave it out")
        return notes
    sharded.check(config, data, objects)
    for rule in (searched, trainer, precision):
        rule(config)
    final(config, data)
    validation(config, data)
    # Long texts become as many rows as the tokenizer says, and a curation may add some.
    more = any(getattr(item, "adds_rows", False) for item in objects.values())
    more = more or any(not prompt for _, (prompt,) in attributes(data.train, "prompt"))
    return [*notes, *length(config, len(data.train), more=more)]


def searched(config: Mapping[str, Any]) -> None:
    """Refuses a search by a metric that no probe can report: it would end after its first run."""
    metric = config.get("optimized_metric") or []
    names = [*METRICS, "val/score", "val/right", "val/known_right"]
    is_all_ours = all(str(node["_target_"]).startswith("truetune.") for node in config["probe"].values())
    for name in [metric] if isinstance(metric, str) else metric:
        if is_all_ours and name not in names and not name.startswith("fit/"):  # the data names its groups
            raise UserError(f"optimized_metric={name}: no such metric{near(name, names)}")


def final(config: Mapping[str, Any], data: Dataset) -> None:
    """Refuses run.final=earliest_best without selection questions, by which it tells one epoch from another."""
    from truetune.probes.selection import can_select

    if config["run"].get("final") == "earliest_best" and not can_select(config, data):
        problem = "this data source, with these probes, has no selection questions"
        raise UserError(f"run.final=earliest_best: {problem}; type run.final=best")


def validation(config: Mapping[str, Any], data: Dataset) -> None:
    """Refuses epochs without validation where each is scored by it: they would be scored by another's loss."""
    from truetune.probes.selection import can_select

    every = config["trainer"].get("check_val_every_n_epoch", 1)
    if every != 1 and len(data.validation) and not can_select(config, data):
        problem = "every epoch is scored by its loss on the validation rows"
        raise UserError(f"trainer.check_val_every_n_epoch={every}: {problem}; leave it at 1")


PACKAGES_OF_LOGGERS = {"WandbLogger": "wandb", "MLFlowLogger": "mlflow", "CometLogger": "comet_ml"}
SET_BY_US = {  # arguments of the Trainer that other keys decide
    "enable_checkpointing": "callbacks=none leaves checkpoints out",
    "logger": "logger=none writes no curves",
    "callbacks": "callbacks=... chooses them, +callbacks.NAME._target_=... adds one",
    "default_root_dir": "hydra.run.dir=... names the run folder",
    "plugins": "checkpoints are written by our own",
}


def trainer(config: Mapping[str, Any]) -> None:
    """Refuses what Lightning would accept, but what would fail in the middle of a run or train nothing."""
    if conflicts := [key for key in SET_BY_US if key in config["trainer"]]:
        raise UserError(f"trainer.{conflicts[0]}: decided elsewhere: {SET_BY_US[conflicts[0]]}")
    trainer, lr, lr_end = config["trainer"], config["optimizer"]["lr"], config["schedule"].get("lr_end", 0)
    strategy = str(trainer.get("strategy", "auto"))
    if strategy.startswith(("fsdp_", "deepspeed", "model_parallel")):
        reason = "the one strategy here that cuts a model up is fsdp, which is FSDP2"
        raise UserError(f"trainer.strategy={strategy}: {reason}; type trainer=fsdp")
    if trainer.get("gradient_clip_val") is None and trainer.get("gradient_clip_algorithm") == "value":
        raise UserError("trainer.gradient_clip_algorithm=value needs trainer.gradient_clip_val; type clip=value")
    if trainer["max_epochs"] == -1 and trainer.get("max_steps", -1) < 0 and not trainer.get("max_time"):
        raise UserError(
            "trainer.max_epochs=-1 never ends; type +trainer.max_steps=... or +trainer.max_time=00:01:00:00"
        )
    if trainer.get("max_steps", -1) == 0:
        raise UserError("trainer.max_steps=0 trains nothing; raise it, or leave it out to go by trainer.max_epochs")
    if lr_end > lr:
        raise UserError(f"schedule.lr_end={lr_end} is above optimizer.lr={lr}; lower it")


def questions(questions: Sequence[Question]) -> list[str]:
    """Notes on questions too few for any answers to show a change, and on true answers of marks alone (`---`)."""
    notes: list[str] = []
    n = len({question.cluster or question.id for question in questions})
    p = min(1.0, 2 * 0.5**n)  # McNemar's, if each of them flipped
    if n and p > 0.05:
        notes.append(
            f"{n} probe {'question' if n == 1 else 'questions'} can show no change: p would be {p:.3f} if every answer "
            "changed; ask at least 6, about different things"
        )
    marks = [(question, answer) for question in questions for answer in question.answers if not normalise(answer)]
    if marks:
        (question, answer), count = marks[0], len({id(question) for question, _ in marks})
        notes.append(
            f"{count} of {len(questions)} probe questions have a true answer without a word, which is compared as it "
            f"stands, the first: {json.dumps(answer, ensure_ascii=False)}, {question.source}"
        )
    return notes


def length(config: Mapping[str, Any], rows: int, *, more: bool) -> list[str]:
    """Refuses a run that is too short for its schedule: in a warm-up that never ends the learning rate stays too low.

    Returns notes.

    `more`: there may be more rows than can be told without a tokenizer, from long texts or a replay.
    """
    trainer, schedule, batch = config["trainer"], config["schedule"], config["loader"]["batch_size"]
    devices = trainer.get("devices", 1)
    devices = len(devices) if isinstance(devices, list) else 1 if devices == "auto" else devices  # auto: any number
    batches, accumulate = batches_per_epoch(rows, batch, devices), trainer["accumulate_grad_batches"]
    limit_key = "overfit_batches" if trainer.get("overfit_batches") else "limit_train_batches"
    limit = trainer.get(limit_key, 1.0)
    if isinstance(limit, float) and int(batches * limit) == 0 and not more:
        reason = f"trainer.{limit_key}={limit} of {batches} batches is none"
        raise UserError(f"{reason}; raise it or lower loader.batch_size")
    per_epoch, max_steps = steps_per_epoch(rows, batch, accumulate, devices, limit), trainer.get("max_steps", -1)
    steps = Steps(per_epoch, trainer["max_epochs"], max_steps).total
    limits = {key: schedule[key] for key in ("warmup_steps", "decay_steps") if key in schedule}
    if sum(limits.values()) > steps and not more and not trainer.get("fast_dev_run"):
        bound = "max_steps" if steps == max_steps else "max_epochs"
        words = " + ".join(f"schedule.{key}={value}" for key, value in limits.items())
        raise UserError(f"{words} is above the run's {steps} steps (trainer.{bound}={trainer[bound]}); lower it")
    window = devices * batch * accumulate
    return [] if more or rows >= window else [f"{rows} rows do not fill one step of {window}: an epoch is one step"]


WHOLLY = {"bf16-true": "bfloat16", "16-true": "float16"}  # precisions that change the weights, and their new type


def precision(config: Mapping[str, Any]) -> None:
    """Refuses a precision in which the base would not be measured as the tuned model is, or that cannot clip."""
    trainer, model = config["trainer"], config["model"]
    precision = str(trainer.get("precision"))
    key, dtype = f"trainer.precision={precision}", WHOLLY.get(precision)
    if dtype is not None and model.get("dtype") != dtype:
        way_out = f"model.dtype={dtype}" if "dtype" in model else f"trainer.precision={precision[:-5]}-mixed"
        reason = f"the base would be measured in {model.get('dtype', 'float32')} and the tuned model in {dtype}"
        raise UserError(f"{key} needs model.dtype={dtype}: {reason}; type {way_out}")
    clips = trainer.get("gradient_clip_val") is not None
    if config["optimizer"].get("fused") and clips and precision == "16-mixed":
        raise UserError(f"optimizer.fused=true with {key} cannot clip; type optimizer.fused=null or clip=none")
