"""The probes that ask about doubt and about a given context, on models whose every answer is known."""

import math
from dataclasses import replace

import numpy as np
import pytest
from bigram import bigram
from command_line import TINY_WORLD, prepared

from truetune.data.dataset import Dataset, Question
from truetune.extensions.faithfulness import Faithfulness
from truetune.extensions.sampling import Sampling
from truetune.extensions.selective import Selective
from truetune.probes import asking
from truetune.probes.asking import Asking
from truetune.probes.baseline import measurement_digest
from truetune.probes.hallucination import Hallucination
from truetune.probes.measure import measure
from truetune.probes.probe import Subject

ASKING = Asking(max_new_tokens=4, batch_size=8, abstention_phrases=("pass it",))
ANSWERS = {
    "sure?": "Rome",
    "half?": {"Rome": 0.6, "Oslo": 0.4},
    "wrong?": {"Oslo": 0.9, "Rome": 0.1},
    "never?": "pass",
    "pass": "it",
    "saysRome": "Rome",
    "saysBonn": "Bonn",
    "saysLima": "Oslo",
    "saysnone": "pass",
}
LM = bigram({*ANSWERS, "it", "Rome", "Oslo", "Bonn", "Lima", "in"}, ANSWERS)


def question(word, answers=("Rome",), **more):
    return Question(word, word, answers, "by hand", cluster=word, **more)


ASKED = [question("sure?"), question("half?"), question("wrong?"), question("never?", ())]
DATA = Dataset(train=[], hallucination=ASKED)


def values(found):
    return {name: estimate.value for name, estimate in found.metrics.items()}


def test_selective_answering_by_hand():
    """Confidences are geometric means over two tokens, the end among them: 1, sqrt .6, sqrt .9; right, right, wrong."""
    assert [round(item.confidence**2, 3) for item in ASKING.ask(Subject(LM), ASKED, DATA)] == [1, 0.6, 0.9, 1]
    found = values(Selective(ASKING, 2.0).measure(Subject(LM), DATA))
    assert found["selective/score_at_50"] == pytest.approx((1 + 1 - 1 + 0) / 4)
    assert found["selective/score_at_75"] == pytest.approx((1 + 1 - 3 + 0) / 4)
    assert found["selective/score_at_90"] == pytest.approx((1 + 0 - 9 + 0) / 4)
    assert found["selective/aurc"] == pytest.approx((0 + 1 / 2 + 1 / 3) / 3)
    assert found["selective/worth_from_confidence"] == pytest.approx(1.0, abs=1e-4)
    assert found["selective/best_worth_per_100"] == pytest.approx(25)
    cheap = values(Selective(ASKING, 0.5).measure(Subject(LM), DATA))
    assert cheap["selective/worth_from_confidence"] == pytest.approx(math.sqrt(0.6), abs=1e-4)


def test_every_figure_of_a_probe_has_n_and_lies_in_its_interval():
    data = replace(DATA, hallucination=[replace(q, id=f"{q.id}{n}", cluster=f"{n}") for n in range(20) for q in ASKED])
    for one in (Selective(ASKING, 1.0), Sampling(ASKING, 6, 1.0, 80, 0)):
        for name, estimate in one.measure(Subject(LM), data).metrics.items():
            assert estimate.n >= 60, name
            assert estimate.low is not None, name
            assert estimate.low <= estimate.value + 1e-9, name
            assert estimate.value <= estimate.high + 1e-9, name


def test_a_probe_that_asks_what_another_asked_shares_its_answers(monkeypatch):
    asked = []
    real = asking.greedy_answers
    monkeypatch.setattr(
        asking, "greedy_answers", lambda lm, prompts, **how: (asked.append(len(prompts)), real(lm, prompts, **how))[1]
    )
    subject = Subject(LM)
    found = measure(subject, DATA, [Hallucination(ASKING), Selective(ASKING, 1.0)], ASKING)
    assert asked == [4]
    assert "selective/aurc" in found.metrics
    measure(subject, DATA, [Hallucination(ASKING)], ASKING)
    assert asked == [4, 4], "nothing is remembered from one measurement to the next: the weights may have changed"


def test_sampling_finds_the_models_own_doubt():
    found = Sampling(ASKING, samples=400, temperature=1.0, questions=10, seed=0).measure(Subject(LM), DATA)
    agreement = {item.id: item.confidence for item in found.items["sampling"]}
    assert agreement["sure?"] == 1
    assert agreement["half?"] == pytest.approx(0.6, abs=0.08)
    assert agreement["wrong?"] == pytest.approx(0.9, abs=0.05)
    shares = np.array([[1, 1e-12], [0.6, 0.4], [0.9, 0.1], [1, 1e-12]])
    entropy = -(shares * np.log(shares)).sum(1).mean()
    assert found.metrics["sampling/semantic_entropy_nats"].value == pytest.approx(entropy, abs=0.03)
    assert found.metrics["sampling/agreement_auroc"].value == 0.5, "surer than one right answer, less than the other"
    assert found.metrics["sampling/agreement_auroc"].n == 3, "an abstention is neither right nor wrong"


def test_sampling_repeats_itself_and_is_bounded():
    one = Sampling(ASKING, samples=5, temperature=1.0, questions=2, seed=1)
    found = one.measure(Subject(LM), DATA)
    assert found == one.measure(Subject(LM), DATA)
    assert len(found.items["sampling"]) == 2


def test_the_hash_of_a_base_measurement_is_the_same_in_another_process():
    """A function's address would not be."""
    assert "0x" not in str(Sampling(ASKING, 5, 1.0, 5, 0))
    assert measurement_digest("d", DATA, [Sampling(ASKING, 5, 1.0, 5, 0)]) != measurement_digest(
        "d", DATA, [Sampling(ASKING, 6, 1.0, 5, 0)]
    )


def told(context, answers, memory=()):
    population = "contradiction" if memory else "asked"
    return Question(context, context, answers, "by hand", population, context, context=context, memory=memory)


def test_context_or_memory_by_hand():
    rows = [
        told("saysRome", ("Rome",), ("Oslo",)),  # follows the context
        told("saysLima", ("Lima",), ("Oslo",)),  # follows memory
        told("saysBonn", ("Lima",), ("Oslo",)),  # neither
        told("saysnone", ("Lima",), ("Oslo",)),  # abstains: neither
        told("saysRome in Rome", ("Oslo",)),  # not a contradiction; what is said (nothing) is not in the context
    ]
    found = Faithfulness(ASKING).measure(Subject(LM), Dataset(train=[], contexts=rows))
    said = values(found)
    assert said["faithfulness/context_rate"] == said["faithfulness/memory_rate"] == 1 / 4
    assert said["faithfulness/neither_rate"] == 2 / 4
    assert found.metrics["faithfulness/context_rate"].n == 4
    kinds = {item.id: item.kind for item in found.items["faithfulness"]}
    assert "from_memory" in kinds["saysLima"]
    assert kinds["saysnone"] == ()
    assert "unsupported" in kinds["saysBonn"]


def test_nothing_asked_nothing_measured():
    for one in (Selective(ASKING, 1.0), Sampling(ASKING, 2, 1.0, 5, 0), Faithfulness(ASKING)):
        assert one.measure(Subject(LM), Dataset(train=[])).metrics == {}


def test_a_closed_world_contradicts_what_was_learnt():
    data = prepared(*TINY_WORLD).data
    assert len(data.contexts) == 8, "one for each held-out company"
    truth = {q.id: q.answers for q in data.hallucination}
    for told_ in data.contexts:
        (said,) = told_.answers
        assert (told_.memory,) != (told_.answers,)
        assert told_.memory == truth[told_.id.removesuffix("/context")]
        assert said in told_.context
        assert told_.memory[0] not in told_.context
        assert said in data.domains[told_.domain]
