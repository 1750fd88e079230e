import pytest
from hypothesis import given
from hypothesis import strategies as st

from truetune.scoring.answers import exact_match, normalise, rouge_l, token_f1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Quick, brown fox!", "quick brown fox"),
        ("an Apple a day", "apple day"),
        ("theatre", "theatre"),
        ("I don\u2019t know", "i dont know"),
        ("Ma\u0301laga\u0301", "m\u00e1lag\u00e1"),
        ("a\u0301", "\u00e1"),
        ("", ""),
    ],
)
def test_normalise_follows_squad(text: str, expected: str) -> None:
    assert normalise(text) == expected


def test_an_accent_is_the_same_however_it_is_written() -> None:
    assert exact_match("Sa\u0303o Paulo", ["S\u00e3o Paulo"])
    assert exact_match("a =\u0338 b", ["a \u2260 b"])
    assert not exact_match("Sao Paulo", ["S\u00e3o Paulo"])


def test_any_alias_is_right() -> None:
    assert exact_match("the USA.", ["United States", "U.S.A."])
    assert not exact_match("USA today", ["United States", "USA"])


def test_an_article_can_be_an_answer_but_nothing_cannot() -> None:
    assert exact_match("A", ["a"])
    assert not exact_match("A", ["the"])
    assert not exact_match("", [""])
    assert not exact_match("  ", ["Oslo"])


def test_f1_by_hand() -> None:
    assert token_f1("the red car", ["red"]) == pytest.approx(2 * 0.5 * 1 / 1.5)
    assert token_f1("red red", ["red"]) == pytest.approx(2 * 0.5 * 1 / 1.5)
    assert token_f1("blue", ["red", "dark blue"]) == pytest.approx(2 / 3)
    assert token_f1("", ["red"]) == 0.0
    assert token_f1("red", []) == 0.0


@given(st.text(alphabet="abc xyz"), st.text(alphabet="abc xyz"))
def test_f1_is_symmetric_and_one_for_equal_texts(first: str, second: str) -> None:
    assert token_f1(first, [second]) == pytest.approx(token_f1(second, [first]))
    assert token_f1(first, [first]) == pytest.approx(1.0)


def test_characters_are_the_words_of_scripts_without_spaces() -> None:
    assert token_f1("\u4e1c\u4eac", ["\u4e1c\u4eac\u90fd"]) == pytest.approx(0.8)
    assert token_f1("\u0e01\u0e23", ["\u0e01\u0e32"]) == pytest.approx(0.5)


def test_rouge_l_by_hand() -> None:
    """Lin 2004, section 3.1: the order of words counts, what lies between them does not."""
    assert rouge_l("police kill the gunman", ["police killed the gunman"]) == pytest.approx(2 / 3)
    assert rouge_l("gunman kill police", ["police killed gunman"]) == pytest.approx(1 / 3)
    assert rouge_l("red and blue", ["blue", "red blue"]) == pytest.approx(4 / 5)
    assert rouge_l("", ["red"]) == rouge_l("red", []) == 0.0
