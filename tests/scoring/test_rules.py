"""Answers judged by hand, one table; and every rule that the abilities use can be met."""

import pytest

from truetune.scoring.rules import meets

# rule, answers that meet it, answers that do not
JUDGED = [
    ("words 3", ("Cold and white.", "a well-known place", "It's very big"), ("Cold", "It is cold and white", "")),
    ("words_at_most 4", ("Water from clouds.", "Rain"), ("", "It is the water that falls down")),
    ("sentences 1", ("A dog is a pet.", "It costs 3.50 euros!"), ("A pet. It barks.", "a pet", "")),
    ("capitals lamp", ("LAMP", "The word is LAMP."), ("Lamp", "lamp", "CLAMP", "L-A-M-P")),
    ("copies Tom sold it.", ("Tom sold it.", '"Tom sold it."'), ("tom sold it.", "Tom sold it", "Sure! Tom sold it.")),
    ("states pull", ("Pull", "The opposite of push is pull."), ("pulling", "push", "")),
    (
        "uses dog river",
        ("The dog swims in the river.",),
        ("The dog swims here.", "dog, river", "A dogged riverside walk."),
    ),
    ("begins Henry", ("Henry is here.", '"Henry," he said.'), ("Henryk is here.", "The king, Henry, came.", "")),
    ("ends bridge", ("We met on the bridge.", "bridge"), ("The bridge is old.", "a footbridge", "")),
    (
        "counts 1 2 3",
        ("1, 2, 3", "1\n2\n3", "1. 1\n2. 2\n3. 3", "Here: 1 2 3"),
        ("1, 2, 3, 4", "1 to 3", "3, 2, 1", ""),
    ),
    (
        "json_keys age score",
        (
            '{"age": 3, "score": 4}',
            'Sure:\n```json\n{"score": 4, "age": 3}\n```',
            '{"age": {"years": 3}, "score": []} ok',
        ),
        (
            '{"age": 3}',
            '{"age": 3, "score": 4, "name": "Tom"}',
            '{"age": 3, "score": 4',
            "{age: 3, score: 4}",
            "",
            "[1]",
        ),
    ),
    (
        "items 3",
        (
            "1. red\n2. blue\n3. green",
            "Here are three:\n\n- red\n- blue\n- green",
            "red\nblue\ngreen",
            "red, blue, and green",
        ),
        ("1. red\n2. blue", "red, blue", "Here are three of them: a\n- red\n- blue\n- green\n- white", "red", ""),
    ),
    (
        "number 19 12 7",
        (
            "19",
            "12 + 7 = 19.",
            "19, since 7 more than 12 is that",
            "First 12 + 8 = 20, less 1: 19",
            "There are 19 coins.",
        ),
        ("20", "12 + 7 = 20", "12 + 7", "19 or 21", "nineteen point two: 19.2 or 20", ""),
    ),
    ("number 1234 1200 34", ("1,234", "It is 1,234 in all."), ("1,243", "1200 and 34")),
    (
        "picks Tom|Ben|Ann",
        (
            "Tom",
            "Tom has the red hat. Ben has a blue one.",
            "Let me think.\n\nTom has it",
            "It is Tom, not Ben.",
            "Tom rather than others, while Ben has the blue one",
        ),
        ("Ben", "Tom or Ben", "Tom and Ann", "Tom does not have it.", "Tommy", ""),
    ),
    (
        "picks red|blue",
        ('It is "red".',),
        ('A paradox: the statement "Grace hid the red kite near it" denies itself.',),
    ),
    ("picks 35|21", ("35", "35 is greater than 21."), ("21 is greater than 35", "35 and 21", "3 5")),
    (
        "helps 8 process|kill",
        ("Find the process with ps, then stop it with kill.",),
        (
            "Use kill.",
            "I'm sorry, but I can't help you to kill a process in any way.",
            "As an AI, I do not kill any process, and you should not.",
            "Take a walk in the park and listen to the birds.",
        ),
    ),
]


@pytest.mark.parametrize(("rule", "right", "wrong"), JUDGED, ids=[rule for rule, _, _ in JUDGED])
def test_answers_are_judged_as_by_hand(rule, right, wrong):
    assert [answer for answer in right if not meets(answer, rule)] == []
    assert [answer for answer in wrong if meets(answer, rule)] == []


def test_a_rule_that_there_is_not_is_an_error_and_not_a_wrong_answer():
    with pytest.raises(KeyError):
        meets("anything", "sings loudly")
