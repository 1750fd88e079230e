"""The limits of a gate as typed, by short names of metrics."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from truetune.config.make import near
from truetune.data.values import Finite
from truetune.errors import UserError
from truetune.records.record import has_base, leaves
from truetune.scoring.gate import Bound, Limit
from truetune.scoring.metrics import METRICS, metric

if TYPE_CHECKING:
    from truetune.data.dataset import Dataset

Limits = Mapping[str, Finite | Mapping[str, Finite | None] | None]
BOUNDS: tuple[Bound, ...] = ("max", "min", "max_drop")
MAIN = {"task": "task/right"}
ELSEWHERE = "elsewhere/"  # asked beside the rows: what is asked of the rows themselves comes first
COMPUTED = ("fit", "lost", "gained", "balance", "pairwise")  # from training rows, or from what several probes answered


@dataclass(frozen=True)
class Gate:
    """Limits on metrics; null is no limit. `undecided` is what a limit counts as that too few questions decide."""

    max: Limits = field(default_factory=dict)
    min: Limits = field(default_factory=dict)
    max_drop: Limits = field(default_factory=dict)
    undecided: Literal["pass", "fail"] | None = None

    def typed(self) -> list[tuple[Bound, str, float]]:
        """Every limit that is not null, by its name as typed, such as `elsewhere.lost_rate`."""
        return [
            (bound, name, value)
            for bound in BOUNDS
            for name, value in leaves(getattr(self, bound))
            if value is not None
        ]

    def check(self, config: Mapping[str, Any], data: Dataset) -> list[str]:
        """What can be said before anything is measured. A user's own probe may bring metrics of any name."""
        ours = all(str(node["_target_"]).startswith("truetune.") for node in config["probe"].values())
        limits = self.limits() if ours else []
        for limit in limits:
            needs_base = limit.bound == "max_drop" or metric(limit.metric).needs_base
            if needs_base and not has_base(config):
                raise UserError(
                    f"{_key(limit)}: is measured against a base, and there is none; type baseline.name_or_path=..."
                )
            group = limit.metric.partition("/")[0]
            if group not in (*config["probe"], *COMPUTED):
                probes = ", ".join(config["probe"])
                raise UserError(f"{_key(limit)}: no probe measures it (probes: {probes}); type probe=full")
        return []

    def limits(self, measured: Collection[str] = ()) -> list[Limit]:
        """Under full names. Raises UserError for a metric that is neither in the table nor `measured`, and for limits
        that nothing, or everything, would keep.
        """
        limits: dict[tuple[Bound, str], Limit] = {}
        for bound, name, value in self.typed():
            limit = Limit(bound, full_name(f"gate.{bound}.", name, [*METRICS, *measured]), value)
            _check_value(f"gate.{bound}.{name}={value:g}", limit)
            if (bound, limit.metric) in limits:
                raise UserError(f"{_key(limit)}: is limited twice; leave gate.{bound}.{name} out")
            limits[bound, limit.metric] = limit
        for (bound, name), limit in limits.items():
            most = limits.get(("max", name))
            if bound == "min" and most and limit.value > most.value:
                raise UserError(
                    f"{_key(limit)}={limit.value:g}: is above {_key(most)}={most.value:g}, and nothing lies between; "
                    "lower it"
                )
        return list(limits.values())


def _key(limit: Limit) -> str:
    return f"gate.{limit.bound}.{limit.metric.replace('/', '.')}"


def full_name(prefix: str, typed: str, known: Collection[str]) -> str:
    """The metric that is meant by all of its name, with a dot or a slash, or by the last part of it."""
    name = MAIN.get(typed, typed.replace(".", "/"))
    if name in known or (name.startswith("fit/") and name.count("/") == 1):  # whose groups are the data's
        return name
    meant = [each for each in dict.fromkeys(known) if each.partition("/")[2] == name]
    meant = [each for each in meant if not each.startswith(ELSEWHERE)] or meant
    if len(meant) == 1:
        return meant[0]
    if meant:
        choices = " or ".join(f"{prefix}{each.replace('/', '.')}" for each in meant)
        raise UserError(f"{prefix}{typed}: is the end of {len(meant)} names; type {choices}")
    words = [*MAIN, *(each.partition("/")[2] for each in known), *(each.replace("/", ".") for each in known)]
    raise UserError(f"{prefix}{typed}: no such metric{near(typed, list(dict.fromkeys(words)))}")


def _check_value(setting: str, limit: Limit) -> None:
    row = metric(limit.metric)
    if row.is_share and not 0 <= limit.value <= 1:
        raise UserError(f"{setting}: {limit.metric} is a share, from 0 to 1; 5 % is 0.05")
    if limit.bound == "max_drop" and limit.value < 0:
        raise UserError(f"{setting}: should be at least 0; gate.min asks for a gain")
    if limit.bound == "max_drop" and not row.direction:
        raise UserError(f"{setting}: {limit.metric} is neither better nor worse in itself; type gate.max or gate.min")
