import pytest

from truetune.scoring.normalisation import read, stands_in


@pytest.mark.parametrize(
    ("context", "answer"),
    [
        ("The rabbit is kept in Lisbon's old harbour.", "Lisbon"),
        ("The rabbit is kept in Lisbon\u2019s old harbour.", "Lisbon"),
        ("The rabbit is kept in Lisbon\u2014not in Porto.", "Lisbon"),
        ("The rabbit belongs to a Lisbon-based firm.", "Lisbon"),
        ("The rabbit is kept in Lisbon/Portugal.", "lisbon."),
        ("\u5154\u5b50\u5728\u91cc\u65af\u672c\u3002", "\u91cc\u65af\u672c"),
        ("The headquarters of Blue Rail are in New Velton, since 1901.", "new velton"),
        ("It was founded on 4 July 1776.", "July 4, 1776"),
        ("It fell to \u22125 degrees.", "-5\u00b0"),
    ],
)
def test_a_context_holds_an_answer_whatever_stands_around_it(context: str, answer: str) -> None:
    assert stands_in(context, answer)


@pytest.mark.parametrize(
    ("context", "answer"),
    [
        ("The headquarters of Blue Rail are in New Velton.", "Velt"),
        ("The headquarters of Blue Rail are in New Velton.", "Rail Blue"),
        ("The headquarters of Blue Rail are in New Velton.", ""),
        ("It fell to \u22125 degrees.", "5 degrees"),
        ("The grade is 3.5.", "35"),
    ],
)
def test_a_context_does_not_hold_what_only_looks_like_it(context: str, answer: str) -> None:
    assert not stands_in(context, answer)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("two hundred and five", ("205",)),
        ("1.5 million, five and six", ("1500000", "5", "and", "6")),
        ("nineteen eighty-four", ("1984",)),
        ("one of the twenty-first", ("one", "of", "the", "21st")),
        ("$1,200.50 or 5 %", ("1200.50", "dollar", "or", "5", "%")),
        ("the 4th of July 1776", ("the", "1776", "july", "4")),
        ("she may 3", ("she", "may", "3")),
        ("U.S.A., J. K. Rowling", ("usa", "jk", "rowling")),
        ("C++, C#, F\u266f, AB\u2212, H\u2082O, 10\u00b2", ("c++", "c#", "f#", "ab-", "h2o", "10", "^", "2")),
        ("S\u00e3o \u0141\u00f3d\u017a & \u6771\u4eac", ("sao", "lodz", "and", "\u6771", "\u4eac")),
        ("COVID-19, 10-18, -5", ("covid", "19", "10", "18", "-5")),
    ],
)
def test_words_by_hand(text: str, words: tuple[str, ...]) -> None:
    assert read(text).words == words
