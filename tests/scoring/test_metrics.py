from truetune.scoring.metrics import METRICS, Metric, metric
from truetune.scoring.rates import DEFINITIONS


def test_every_rate_has_a_row_and_is_a_share() -> None:
    assert {name for name in DEFINITIONS if not metric(name).is_share} == set()


def test_every_row_says_in_a_sentence_what_is_measured() -> None:
    assert len({row.label for row in METRICS.values()}) == len(METRICS)
    assert all(row.definition[0].isupper() and row.definition.endswith(".") for row in METRICS.values())


def test_a_metric_of_a_users_own_probe_is_shown_under_its_own_name() -> None:
    assert metric("verbosity/words") == Metric("verbosity/words")
