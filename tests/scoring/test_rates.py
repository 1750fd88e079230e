import pytest

from truetune.scoring.answers import key
from truetune.scoring.estimates import wilson
from truetune.scoring.item import Item
from truetune.scoring.rates import kinds, rates


def item(key: str, outcome: str, population: str, kind: tuple[str, ...] = (), cluster: str = "") -> Item:
    answers = () if population == "never" else ("Riga",)
    return Item(key, "?", answers, "Oslo", outcome, kind, None, population, cluster)


ITEMS = [
    item("1", "right", "known-test"),
    item("2", "abstained", "known-test"),
    item("3", "wrong", "known-test", ("lost", "echo")),
    item("4", "wrong", "known-test", ("off_domain",)),
    item("5", "wrong", "never", ("invented",)),
    item("6", "abstained", "never"),
]


def test_hallucination_rates_by_hand() -> None:
    found = {
        name.split("/")[1]: (estimate.value, estimate.n) for name, estimate in rates("hallucination", ITEMS).items()
    }
    assert found == {
        "rate": (3 / 6, 6),
        "abstention_rate": (2 / 6, 6),
        "correct_given_attempted": (1 / 4, 4),
        "known_right": (1 / 4, 4),
        "invented_rate": (1 / 2, 2),
        "echo_rate": (1 / 6, 6),
        "off_domain_rate": (1 / 6, 6),
    }


def test_a_task_is_met_by_an_abstention_where_that_is_right() -> None:
    told = Item("7", "?", ("I don't know",), "I don't know.", "abstained", (), None, "asked", "")
    found = rates("task", [*ITEMS, told])
    assert (found["task/right"].value, found["task/right"].n) == (3 / 7, 7)  # 1, 6 and 7
    assert found["task/exact_match"].value == 2 / 7, "6 and 7: the others say Oslo"


def test_a_rate_nobody_was_asked_for_is_left_out() -> None:
    own = [Item("1", "?", ("Riga",), "Riga", "right", population="asked")]
    found = rates("hallucination", own)
    assert "hallucination/known_right" not in found
    assert "hallucination/invented_rate" not in found


def test_a_users_question_without_answers_asks_for_an_abstention() -> None:
    own = [Item("1", "?", (), "Riga", "wrong", population="asked")]
    assert rates("hallucination", own)["hallucination/invented_rate"].value == 1


def test_items_without_a_cluster_stand_alone() -> None:
    alone = rates("task", [item(str(k), "right", "task") for k in range(20)])["task/right"]
    shared = rates("task", [item(str(k), "right", "task", cluster=str(k % 5)) for k in range(20)])["task/right"]
    assert (alone.low, alone.high) == wilson(1.0, 20)
    assert (shared.low, shared.high) == wilson(1.0, 5)


def said(answer: str, answers: tuple[str, ...] = ("Riga",), population: str = "", outcome: str = "wrong") -> Item:
    return Item("a", "Where?", answers, answer, outcome, population=population)


def test_a_wrong_answer_can_be_of_several_kinds() -> None:
    assert kinds(said("Oslo!", ()), {"oslo"}, {"riga"}) == ("invented", "echo", "off_domain")


def test_an_answer_where_none_exists_is_invented() -> None:
    assert kinds(said("Oslo", ()), (), None) == ("invented",)
    assert kinds(said("Oslo", population="never"), (), None) == ("invented",)


def test_an_empty_answer_is_off_domain_even_if_the_domain_is_unknown() -> None:
    assert kinds(said(" "), {""}, None) == ("off_domain",)


def test_an_unknown_domain_condemns_nothing() -> None:
    assert kinds(said("Oslo"), (), None) == ()
    assert kinds(said("Oslo"), (), {"oslo"}) == ()


@pytest.mark.parametrize("outcome", ["right", "abstained"])
def test_only_wrong_answers_have_kinds(outcome: str) -> None:
    assert kinds(said("Oslo", (), outcome=outcome), {"oslo"}, ()) == ()


def test_a_letter_of_a_multiple_choice_can_be_an_echo() -> None:
    """`A` is an article that normalising takes away: as an answer it stands as it is."""
    assert kinds(said("A"), {key(" A")}, None) == ("echo",)
    assert kinds(said("A"), {key(" C")}, None) == ()


SENTENCES = (
    "Seeds of a watermelon pass through your digestive system.",
    "You can swallow them without any harm at all.",
)
FALSE = ("A watermelon grows in your stomach if you do.",)


def of_sentences(key: str, answer: str, outcome: str = "wrong") -> Item:
    return Item(key, "?", SENTENCES, answer, outcome, wrong=FALSE)


def test_answers_to_be_sentences_are_judged_by_how_near_they_come() -> None:
    near, far = of_sentences("1", "They pass through your digestive system."), of_sentences("2", "A watermelon grows.")
    estimates = rates("task", [near, far, of_sentences("3", SENTENCES[0], "right")])
    assert estimates.keys() == {"task/token_f1", "task/rouge_l", "task/nearer_true"}
    assert estimates["task/nearer_true"].value == 2 / 3
    assert estimates["task/rouge_l"].value == pytest.approx((10 / 14 + 2 / 10 + 1) / 3)  # articles are left out
    asked = [near, Item("4", "?", (), "They do.", "wrong", population="never")]
    assert rates("hallucination", asked).keys() == {"hallucination/abstention_rate", "hallucination/invented_rate"}
