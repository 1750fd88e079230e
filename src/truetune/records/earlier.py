"""Translates what runs of earlier versions recorded into today's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

_LOADER = ("batch_size", "over_long", "max_tokens", "num_workers", "group_by_length", "packing")
_RUN = ("threads", "on_nonfinite", "final", "save_model", "preview")
_KNOWLEDGE = ("samples", "temperature", "shots", "prompts")
MOVED_KEYS = {
    "extras.measure_points": "measure.points",
    "extras.measure_batch_size": "measure.batch_size",
    "extras.label_facts": "knowledge.label",
    **{f"extras.{name}": f"measure.{name}" for name in ("max_new_tokens", "abstention_phrases", "wrong_cost")},
    **{f"extras.knowledge_{name}": f"knowledge.{name}" for name in _KNOWLEDGE},
    **{f"extras.{name}": f"run.{name}" for name in _RUN},
    **{f"data.{name}": f"loader.{name}" for name in _LOADER},
}
MOVED_CLASSES = {
    "truetune.data.hub.Hub": "truetune.extensions.hub.Hub",
    "truetune.models.tiny.Pretraining": "truetune.models.tiny.PretrainingSettings",
    "truetune.models.tiny.TinyRecurrent": "truetune.extensions.recurrent.TinyRecurrent",
    "truetune.models.quantised.Quantised": "truetune.extensions.quantised.Quantised",
}


MOVED_METRICS = {
    "hallucination/known_exact_match": "hallucination/known_right",
    "val/exact_match": "val/right",
    "val/known_exact_match": "val/known_right",
}


def with_names_of_today(record: Any) -> Any:
    """A record with today's names of metrics, at any depth; `task/right` was once only the exact match."""
    if isinstance(record, list):
        return [with_names_of_today(part) for part in cast("list[Any]", record)]
    if not isinstance(record, dict):
        return record
    parts = cast("dict[str, Any]", record).items()
    entries = {MOVED_METRICS.get(name, name): with_names_of_today(part) for name, part in parts}
    return {"task/right": entries["task/exact_match"], **entries} if "task/exact_match" in entries else entries


def modern(config: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded configuration as it would be recorded now; a recent one is returned as it is."""
    groups = {key: dict(value) if isinstance(value, Mapping) else value for key, value in config.items()}
    if "extras" not in groups:
        return groups
    for old, new in MOVED_KEYS.items():
        (group, name), (new_group, new_name) = old.split("."), new.split(".")
        if name in groups.get(group, {}):
            groups.setdefault(new_group, {})[new_name] = groups[group].pop(name)
    del groups["extras"]
    return _with_moved_classes(groups)


def _with_moved_classes(node: Any) -> Any:
    """A configuration with today's names of classes: data source and model are made again to chat with the run."""
    if isinstance(node, dict):
        return {key: _with_moved_classes(value) for key, value in node.items()}  # pyright: ignore[reportUnknownVariableType]
    return MOVED_CLASSES.get(node, node) if isinstance(node, str) else node
