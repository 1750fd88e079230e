"""The limits of a gate as typed, which may name a metric by the last part of its name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from truetune.config.instantiation import near
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
ELSEWHERE = "elsewhere/"  # metrics of questions beside the rows; a short name means the metric on the rows first
COMPUTED = ("fit", "lost", "gained", "balance", "pairwise")  # from training rows, or from the answers to several probes


@dataclass(frozen=True)
class Gate:
    """Limits on metrics; null is no limit. `undecided` is what a limit counts as that needs more questions."""

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
        """Refuses, before anything is measured, limits that no probe can decide.

        With a user's own probe nothing is refused: it may bring metrics of any name.
        """
        is_all_ours = all(str(node["_target_"]).startswith("truetune.") for node in config["probe"].values())
        limits = self.limits() if is_all_ours else []
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
        """The limits, under the full names of their metrics.

        Raises UserError for a metric that is neither in the table nor `measured`, and for limits that nothing, or
        everything, would keep.
        """
        limits: dict[tuple[Bound, str], Limit] = {}
        for bound, name, value in self.typed():
            limit = Limit(bound, full_name(f"gate.{bound}.", name, [*METRICS, *measured]), value)
            _check_value(f"gate.{bound}.{name}={value:g}", limit)
            if (bound, limit.metric) in limits:
                raise UserError(f"{_key(limit)}: is limited twice; leave gate.{bound}.{name} out")
            limits[bound, limit.metric] = limit
        for (bound, name), limit in limits.items():
            upper = limits.get(("max", name))
            if bound == "min" and upper and limit.value > upper.value:
                raise UserError(
                    f"{_key(limit)}={limit.value:g}: is above {_key(upper)}={upper.value:g}, and nothing lies between; "
                    "lower it"
                )
        return list(limits.values())


def _key(limit: Limit) -> str:
    return f"gate.{limit.bound}.{limit.metric.replace('/', '.')}"


def full_name(prefix: str, typed: str, known: Collection[str]) -> str:
    """The metric that is meant by its full name, with a dot or a slash, or by the last part of it.

    Raises UserError if no metric is meant, or several are.
    """
    name = MAIN.get(typed, typed.replace(".", "/"))
    if name in known or (name.startswith("fit/") and name.count("/") == 1):  # the data names its groups
        return name
    candidates = [candidate for candidate in dict.fromkeys(known) if candidate.partition("/")[2] == name]
    candidates = [candidate for candidate in candidates if not candidate.startswith(ELSEWHERE)] or candidates
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        choices = " or ".join(f"{prefix}{candidate.replace('/', '.')}" for candidate in candidates)
        raise UserError(f"{prefix}{typed}: is the end of {len(candidates)} names; type {choices}")
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
