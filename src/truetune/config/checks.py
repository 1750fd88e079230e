"""Rules that concern several keys at once; each refusal names them."""

from __future__ import annotations

import ast
import importlib.util
import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from truetune.config.settings import near
from truetune.errors import UserError
from truetune.methods.curation import NO_OLD_TEXTS
from truetune.scoring.answers import is_abstention, normalise
from truetune.training.schedules import batches_per_epoch, steps_per_epoch

if TYPE_CHECKING:
    from truetune.data.dataset import Question

Job = Literal["train", "measure"]
COMMAND: dict[Job, str] = {"train": "truetune", "measure": "truetune-measure"}
CHOSEN: dict[Job, tuple[str, ...]] = {
    "train": ("data", "model", "objective", "optimizer", "schedule", "trainer", "probe", "paths", "extras"),
    "measure": ("data", "model", "baseline", "probe", "paths", "extras"),
}


def trainable(config: Mapping[str, Any]) -> None:
    """What belongs to the other command."""
    if "baseline" in config:
        raise UserError("baseline: a run measures its own base; truetune-measure compares any two models")
    data = config.get("data")
    if isinstance(data, Mapping) and data.get("_target_") == "truetune.data.questions.Questions":
        raise UserError("data=questions: nothing to train on; type truetune-measure, or data=jsonl data.train_file=...")


def groups(config: Mapping[str, Any], job: Job = "train") -> None:
    for group in CHOSEN[job]:
        if not config.get(group):
            raise UserError(f"{group}: nothing is chosen; type {group}=... ({COMMAND[job]} --help lists the choices)")
    if job == "measure" and "name_or_path" not in config["model"]:
        raise UserError("model: only model=pretrained has weights to measure; leave model=... out")


CONTRADICTIONS = (
    ("filter_unknown", "relabel_unknown"),
    ("filter_unknown", "downweight_unknown"),
    ("relabel_unknown", "downweight_unknown"),
    ("lora", "freeze"),
    ("lora", "interpolate"),
    ("lora", "l2_sp"),
    ("lora", "ewc"),
    ("r_tuning", "filter_unknown"),
    ("r_tuning", "relabel_unknown"),
    ("r_tuning", "downweight_unknown"),
)


def methods(config: Mapping[str, Any]) -> None:
    chosen = {*config["curation"], *config["adaptation"], *config["objective"]}
    for one, other in CONTRADICTIONS:
        if {one, other} <= chosen:
            raise UserError(f"method: {one} and {other} contradict each other; choose one of them")


def abstentions(config: Mapping[str, Any]) -> None:
    """What is taught as an abstention must count as one, or the run would report it as wrong answers."""
    phrases = config["extras"]["abstention_phrases"]
    for phrase in phrases:
        if not normalise(phrase):
            raise UserError(f"extras.abstention_phrases: {phrase!r} holds no word, so nothing matches it; leave it out")
    for name, key in (("relabel_unknown", "answer"), ("r_tuning", "unsure")):
        text = config["curation"].get(name, {}).get(key, "")
        if text and not is_abstention(text, phrases):
            raise UserError(
                f"curation.{name}.{key}={text}: would count as wrong; add its words to extras.abstention_phrases"
            )


def probes(config: Mapping[str, Any]) -> None:
    for name, probe in config["probe"].items():
        if probe.get("temperature") == 0:
            times, key = probe.get("samples"), f"probe.{name}.temperature={probe['temperature']}"
            raise UserError(f"{key} draws the same answer {times} times; set one above 0, such as 1")


def selection(config: Mapping[str, Any], *, task: bool, known: bool) -> None:
    """Whether there are the selection questions that something chooses by."""
    if "frontier" in (config.get("callbacks") or {}) and not (task and known):
        raise UserError(
            "callbacks=frontier: this data source, with these probes, has no selection questions on what was known; "
            "leave it out"
        )
    if "interpolate" in config["adaptation"] and not task:
        raise UserError(
            "adaptation.interpolate: this data source, with these probes, has no selection questions; leave it out"
        )


def old_texts(config: Mapping[str, Any], *, there: bool) -> None:
    if "replay" in config["curation"] and not there:
        raise UserError(NO_OLD_TEXTS)


def questions(asked: Sequence[Question]) -> list[str]:
    """Notes on questions too few for any answers to show a change, and on true answers of marks alone (`---`)."""
    notes: list[str] = []
    names = {question.cluster or question.id for question in asked}
    p = min(1.0, 2 * 0.5 ** len(names))  # McNemar's, were each of them to flip
    if names and p > 0.05:
        notes.append(
            f"{len(names)} probe {'question' if len(names) == 1 else 'questions'} can show no change: p would be "
            f"{p:.3f} if every answer changed; ask at least 6, about different things"
        )
    marks = [question for question in asked if any(not normalise(answer) for answer in question.answers)]
    if marks:
        one = next(answer for answer in marks[0].answers if not normalise(answer))
        notes.append(
            f"{len(marks)} of {len(asked)} probe questions have a true answer without a word, which is compared as it "
            f"stands, the first: {json.dumps(one, ensure_ascii=False)}, {marks[0].source}"
        )
    return notes


def length(config: Mapping[str, Any], rows: int, *, more: bool) -> list[str]:
    """A warm-up that never ends would be a run at a fraction of its learning rate. Returns notes.

    `more`: there may be more rows than can be told without a tokenizer, from long texts or a replay.
    """
    trainer, schedule, batch = config["trainer"], config["schedule"], config["data"]["batch_size"]
    devices = _devices(trainer.get("devices", 1))
    batches, accumulate = batches_per_epoch(rows, batch, devices), trainer["accumulate_grad_batches"]
    limit = trainer.get("limit_train_batches", 1.0)
    if isinstance(limit, float) and int(batches * limit) == 0 and not more:
        raise UserError(
            f"trainer.limit_train_batches={limit} of {batches} batches is none; raise it or lower data.batch_size"
        )
    steps = steps_per_epoch(rows, batch, accumulate, devices) * trainer["max_epochs"]
    asked = {key: schedule[key] for key in ("warmup_steps", "decay_steps") if key in schedule}
    if sum(asked.values()) > steps and not more:
        named = " + ".join(f"schedule.{key}={value}" for key, value in asked.items())
        epochs = f"trainer.max_epochs={trainer['max_epochs']}"
        raise UserError(f"{named} is above the run's {steps} steps ({epochs}); lower it")
    window = devices * batch * accumulate
    return [] if more or rows >= window else [f"{rows} rows do not fill one step of {window}: an epoch is one step"]


def _devices(given: Any) -> int:
    """`auto` may be any number: one, as far as a check without torch can tell."""
    return len(given) if isinstance(given, list) else given if isinstance(given, int) else 1


def trainer(config: Mapping[str, Any]) -> None:
    known = _trainer_arguments()
    for key in config["trainer"] if known else ():
        if key not in ("_target_", *known):
            raise UserError(f"trainer.{key}: lightning's Trainer has no such argument{near(key, known)}")


@cache
def _trainer_arguments() -> tuple[str, ...]:
    """Read from Lightning's source: to import that takes seconds. Empty if it is not found."""
    made = importlib.util.find_spec("lightning")
    if made is None or made.origin is None:
        return ()
    source = (Path(made.origin).parent / "pytorch" / "trainer" / "trainer.py").read_text(encoding="utf-8")
    defined = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef))
    return tuple(each.arg for node in defined if node.name == "__init__" for each in node.args.kwonlyargs)


def together(config: Mapping[str, Any]) -> None:
    trainer, model, schedule = config["trainer"], config["model"], config["schedule"]
    if "quant_type" in model and "lora" not in config["adaptation"]:
        raise UserError("model=qlora: weights of 4 bits cannot be trained themselves; add method=lora")
    if "self_distill" in config["objective"] and not config["extras"]["label_facts"]:
        raise UserError("extras.label_facts=false: method=self_distill teaches from what the base knows; leave it out")
    if "cell" in model and "dola" in config["decoding"]:
        raise UserError(f"method=dola contrasts a Transformer's layers; model.cell={model['cell']} shows none")
    if {"hidden_size", "heads"} <= model.keys() and model["hidden_size"] % (2 * model["heads"]):
        raise UserError(
            f"model.hidden_size={model['hidden_size']} must divide by twice model.heads={model['heads']} "
            f"(rotary positions); try model.hidden_size={2 * model['heads'] * 16}"
        )
    if config["extras"]["max_new_tokens"] >= model.get("context_length", math.inf):
        raise UserError(
            f"extras.max_new_tokens={config['extras']['max_new_tokens']} leaves no room for a question in "
            f"model.context_length={model['context_length']}; lower it"
        )
    if str(trainer.get("strategy", "auto")).startswith(("fsdp", "deepspeed")):
        raise UserError(
            f"trainer.strategy={trainer['strategy']}: the probes ask a whole model, and this strategy cuts it up "
            "(nor could it clip by norm); type trainer=ddp, with method=lora for a large model"
        )
    if trainer.get("gradient_clip_val") is None and trainer.get("gradient_clip_algorithm") == "value":
        raise UserError("trainer.gradient_clip_algorithm=value needs trainer.gradient_clip_val; type clip=value")
    if trainer.get("max_steps", -1) == 0:
        raise UserError("trainer.max_steps=0 trains nothing; raise it, or leave it out to go by trainer.max_epochs")
    if schedule.get("lr_end", 0) > config["optimizer"]["lr"]:
        raise UserError(
            f"schedule.lr_end={schedule['lr_end']} is above optimizer.lr={config['optimizer']['lr']}; lower it"
        )
    if "pretraining" in model and model["pretraining"]["warmup_steps"] > model["pretraining"]["steps"]:
        raise UserError(
            f"model.pretraining.warmup_steps={model['pretraining']['warmup_steps']} is above "
            f"model.pretraining.steps={model['pretraining']['steps']}; lower it"
        )


WHOLLY = {"bf16-true": "bfloat16", "16-true": "float16"}  # the precisions that change the weights, and to what


def precision(config: Mapping[str, Any]) -> None:
    """Base and tuned model are measured in one and the same."""
    trainer, model = config["trainer"], config["model"]
    asked = str(trainer.get("precision"))
    if asked in WHOLLY and model.get("dtype") != WHOLLY[asked]:
        found = f"model.dtype={model['dtype']}" if "dtype" in model else "float32"
        way_out = (
            f"type model.dtype={WHOLLY[asked]}" if "dtype" in model else f"type trainer.precision={asked[:-5]}-mixed"
        )
        raise UserError(
            f"trainer.precision={asked} needs model.dtype={WHOLLY[asked]}: the base would be measured in {found} and "
            f"the tuned model in {WHOLLY[asked]}; {way_out}"
        )
    clips = trainer.get("gradient_clip_val") is not None
    if config["optimizer"].get("fused") and clips and asked.endswith("-mixed"):
        raise UserError(
            f"optimizer.fused=true with trainer.precision={asked} cannot clip gradients; "
            "type optimizer.fused=null or clip=none"
        )
