from truetune.balance.estimates import wilson
from truetune.balance.rates import rates
from truetune.record import Item


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
        "known_exact_match": (1 / 4, 4),
        "known_abstention_rate": (1 / 4, 4),
        "invented_rate": (1 / 2, 2),
        "echo_rate": (1 / 6, 6),
        "off_domain_rate": (1 / 6, 6),
    }


def test_a_rate_nobody_was_asked_for_is_left_out() -> None:
    own = [Item("1", "?", ("Riga",), "Riga", "right", population="asked")]
    found = rates("hallucination", own)
    assert "hallucination/known_exact_match" not in found
    assert "hallucination/invented_rate" not in found


def test_a_users_question_without_answers_asks_for_an_abstention() -> None:
    own = [Item("1", "?", (), "Riga", "wrong", population="asked")]
    assert rates("hallucination", own)["hallucination/invented_rate"].value == 1


def test_items_without_a_cluster_stand_alone() -> None:
    alone = rates("task", [item(str(k), "right", "task") for k in range(20)])["task/exact_match"]
    shared = rates("task", [item(str(k), "right", "task", cluster=str(k % 5)) for k in range(20)])["task/exact_match"]
    assert (alone.low, alone.high) == wilson(1.0, 20)
    assert (shared.low, shared.high) == wilson(1.0, 5)
