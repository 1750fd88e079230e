"""Does the judge say what a person says? `python tests/benchmarks/judge.py FILE` of labelled answers.

A row of the file holds question, answers, answer and outcome. Each disagreement is printed, then the agreement,
Cohen's kappa and the number of rows.
"""

import json
import sys
from collections import Counter
from pathlib import Path

from truetune.probes.measure import ABSTENTION_PHRASES
from truetune.scoring.judge import judged


def kappa(pairs: list[tuple[str, str]]) -> float:
    """Cohen's, of pairs of labels: agreement beyond that of two who label as often so by chance."""
    observed = sum(first == second for first, second in pairs) / len(pairs)
    ours, theirs = Counter(first for first, _ in pairs), Counter(second for _, second in pairs)
    by_chance = sum(ours[label] * theirs[label] for label in ours) / len(pairs) ** 2
    return 1.0 if by_chance == 1 else (observed - by_chance) / (1 - by_chance)


def main() -> None:
    lines = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines if line.strip()]
    pairs: list[tuple[str, str]] = []
    for row in rows:
        ours = judged(row["answer"], row["answers"], question=row["question"], phrases=ABSTENTION_PHRASES)
        pairs.append((ours, row["outcome"]))
        if ours != row["outcome"]:
            print(f"{ours}, a person: {row['outcome']} | {row['question']} | {row['answers']} | {row['answer']!r}")
    agreement = sum(first == second for first, second in pairs) / len(pairs)
    print(f"agreement {agreement:.3f} kappa {kappa(pairs):.3f} n {len(pairs)}")


if __name__ == "__main__":
    main()
