"""Exercises have one right answer, and which of them are held out is decided by their text alone."""

import random

from truetune.data.world import EXERCISE_WORDS, exercise, held_out


def drawn(count=3000, seed=0):
    rng = random.Random(seed)
    return [exercise(rng) for _ in range(count)]


def test_every_answer_is_right():
    rules = {"copy": list, "reverse": lambda n: list(reversed(n)), "sort": sorted}
    seen = set()
    for task, prompt, answer in drawn():
        name, *numbers, end = prompt.split()
        assert (name, end) == (task, "=")
        assert [int(n) for n in answer.split()] == rules[task]([int(n) for n in numbers])
        assert 2 <= len(numbers) == len(set(numbers)) <= 4
        seen.add(task)
    assert seen == set(rules)


def test_one_exercise_in_ten_is_held_out():
    prompts = {prompt for _, prompt, _ in drawn(8000)}
    share = sum(map(held_out, prompts)) / len(prompts)
    assert len(prompts) > 4000
    assert 0.08 < share < 0.12
    assert {p for p in prompts if held_out(p)} == {p for p in sorted(prompts) if held_out(p)}, "the text alone decides"


def test_every_word_of_an_exercise_is_in_the_vocabulary():
    used = {word for _, prompt, answer in drawn() for word in f"{prompt} {answer}".split()}
    assert used == set(EXERCISE_WORDS)
