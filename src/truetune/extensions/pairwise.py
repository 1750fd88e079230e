"""A judge for free outputs: a served model is asked whose answer is better, the base's or the tuned model's."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from truetune.data.dataset import Dataset
from truetune.data.values import Count, Text
from truetune.errors import Say, UserError
from truetune.models.chat_completions import Client, Reply, Server
from truetune.records.record import has_base
from truetune.scoring.estimates import Estimate, rate
from truetune.scoring.item import Item, Measurement
from truetune.scoring.lost_and_kept import join

Rows = list[dict[str, Any]]
Winner = Literal["base", "tuned", "tie", "unreadable"]
PLACES = ("{question}", "{first}", "{second}")
UNFIT = 1 / 3  # of the pairs; above it a judge is not believed
MARKED = re.compile(r"\[\[\s*([ABC])\s*\]\]", re.I)
BARE = re.compile(r"\W*(?:answer|verdict|winner)?\W*(A|B|C|tie)\b\W*", re.I)
SCORES: dict[Winner, float] = {"base": 0.0, "tie": 0.5, "tuned": 1.0}


@dataclass(frozen=True)
class Pairwise(Server):
    """Shows the judge both models' answers to at most `prompts` held-out questions of the task, in both orders, within
    the `instructions`. Answers that are the same, word by word, are a tie that nobody is asked about.
    """

    model: Text
    instructions: Text
    prompts: Count = 200
    max_tokens: Count = 512
    called: str = field(default="judging", kw_only=True)

    def check(self, config: Mapping[str, Any], data: Dataset) -> list[str]:
        """Asks for a first word, so that a judge that cannot be asked is refused before anything is measured."""
        if missing := [place for place in PLACES if place not in self.instructions]:
            raise UserError(f"judging.instructions: lacks {', '.join(missing)}, where the text is put in")
        if not has_base(config):
            raise UserError("judging: compares answers with those of a base; type baseline.name_or_path=...")
        if "task" not in config["probe"] or not data.task:
            reason = "are no held-out questions" if "task" in config["probe"] else "is no probe=task"
            raise UserError(f"judging: there {reason}, whose answers could be compared")
        client = self._client()
        client.check()
        client.first_reply([{"role": "user", "content": "Hello"}], max_tokens=1)
        return [f"judging: {self.model} at {self.url} is asked whose answers are better"]

    def judge(self, base: Measurement, tuned: Measurement, say: Say) -> tuple[dict[str, Estimate], Rows]:
        """Metrics, and every verdict with its text; says what keeps a judge from being believed."""
        pairs = join(base.items.get("task", []), tuned.items.get("task", []))
        pairs = random.Random("pairwise").sample(pairs, min(self.prompts, len(pairs)))
        unequal = [pair for pair in pairs if pair[0].answer != pair[1].answer]
        requests = [self._request(*pair, base_first) for pair in unequal for base_first in (True, False)]
        replies = iter(self._client().replies(requests, f"{self.model} judges", say))
        rows: Rows = []
        for before, after in pairs:
            row = {"id": before.id, "question": before.question, "base": before.answer, "tuned": after.answer}
            orders = ("base", "tuned") if before.answer != after.answer else ()
            verdicts = [_verdict(next(replies), first) for first in orders]
            rows.append({**row, "outcome": outcome([verdict["winner"] for verdict in verdicts]), "verdicts": verdicts})
        return self._metrics([pair[0] for pair in pairs], rows, say), rows

    def _metrics(self, items: Sequence[Item], rows: Sequence[dict[str, Any]], say: Say) -> dict[str, Estimate]:
        readable = [(item, row) for item, row in zip(items, rows, strict=True) if row["outcome"] != "unreadable"]
        if unreadable := len(rows) - len(readable):
            say(f"judging: {unreadable} of {len(rows)} pairs have a verdict that cannot be read and are left out")
        if not readable:
            return {}
        clusters = [item.cluster or item.id for item, _ in readable]
        by_order = rate([row["outcome"] == "order" for _, row in readable], clusters)
        metrics = {"pairwise/decided_by_order": by_order}
        if by_order.value > UNFIT or unreadable > UNFIT * len(rows):
            what = "contradicts itself" if by_order.value > UNFIT else "cannot be read"
            count = round(by_order.value * by_order.n) if by_order.value > UNFIT else unreadable
            say(f"judging: {self.model} is unfit: it {what} in {count} of {len(rows)} pairs, so there is no win rate")
            return metrics
        scores = [score([verdict["winner"] for verdict in row["verdicts"]]) for _, row in readable]
        return {"pairwise/win_rate": rate(scores, clusters), **metrics}

    def _request(self, before: Item, after: Item, base_first: bool) -> list[dict[str, Any]]:
        first, second = (before, after) if base_first else (after, before)
        texts: dict[str, str] = dict(zip(PLACES, (before.question, first.answer, second.answer), strict=True))
        # All places in one pass: an answer may hold such a place itself.
        content = re.sub("|".join(map(re.escape, PLACES)), lambda match: texts[match[0]], self.instructions)
        return [{"role": "user", "content": content}]

    def _client(self) -> Client:
        return Client(self, self.model, {"max_tokens": self.max_tokens, "temperature": 0})


def _verdict(reply: Reply, first: str) -> dict[str, Any]:
    second = "base" if first == "tuned" else "tuned"
    winners = {"A": first, "B": second, "C": "tie", "TIE": "tie", "": "unreadable"}
    return {"first": first, "winner": winners[letter(reply.text)], "text": reply.text}


def letter(text: str) -> str:
    """The last of `[[A]]`, `[[B]]` and `[[C]]`, or a text that is no more than such a letter; else nothing."""
    text = text.rpartition("</think>")[2]
    letters = MARKED.findall(text) or [match[1] for match in [BARE.fullmatch(text)] if match]
    return str(letters[-1]).upper() if letters else ""


def outcome(winners: Sequence[Winner]) -> str:
    """The outcome of a pair in both orders: `order` if the place decided; one win and one tie are a win."""
    if not winners:
        return "tie"
    if "unreadable" in winners:
        return "unreadable"
    sides = set(winners) - {"tie"}
    return "order" if len(sides) > 1 else next(iter(sides), "tie")


def score(winners: Sequence[Winner]) -> float:
    """1 where the tuned model has won in both orders, 0 where the base has, a half for ties and contradictions."""
    return sum(SCORES[winner] for winner in winners) / len(winners) if winners else 0.5
