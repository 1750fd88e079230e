"""General ability that has nothing to do with facts: copying, reversing and sorting short lists of numbers."""

from __future__ import annotations

import random
from collections.abc import Callable

TASKS: dict[str, Callable[[list[int]], list[int]]] = {
    "copy": lambda numbers: numbers,
    "reverse": lambda numbers: numbers[::-1],
    "sort": sorted,
}
NUMBERS = range(10)
LENGTHS = range(2, 5)


def exercise(rng: random.Random) -> tuple[str, str, str]:
    """One (task, prompt, answer)."""
    task = rng.choice(list(TASKS))
    numbers = rng.sample(NUMBERS, rng.choice(LENGTHS))
    return task, f"{task} {_text(numbers)} =", _text(TASKS[task](numbers))


def held_out(prompt: str, share: float = 0.1) -> bool:
    """Whether a prompt belongs to the probe: decided by its text, so that training and probing never share one."""
    return random.Random(f"held-out-{prompt}").random() < share


def words() -> list[str]:
    return [*TASKS, "=", *map(str, NUMBERS)]


def _text(numbers: list[int]) -> str:
    return " ".join(map(str, numbers))
