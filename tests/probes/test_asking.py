"""A question reaches a model in the form that was chosen, with room for its answer, and is judged alike in each."""

from dataclasses import replace

import pytest
import torch
from bigram import bigram
from training.small import language_model
from transformers import AutoModelForCausalLM

from truetune.data.chat_form import in_chat_form
from truetune.data.dataset import Dataset, Example, Question, Turn
from truetune.errors import UserError
from truetune.models.frozen import Frozen
from truetune.models.language_model import in_dtype
from truetune.probes.asking import Asking, AskingSettings, resolved
from truetune.probes.hallucination import Hallucination
from truetune.probes.likelihood import likelihood
from truetune.probes.measure import compare, follow, measure, noise_floor
from truetune.probes.probe import Subject
from truetune.probes.ranking import Ranking, log_likelihoods
from truetune.probes.task import Task
from truetune.scoring.item import Item, Measurement

CHAT = "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}"


def asked(number, **fields):
    words = fields.pop("words", f"w{number}")
    return Question(f"q{number}", f"ask {words}", ("w1",), "rows:1", words=words, **fields)


def shown(number, cluster=""):
    return Example(f"s{number}", f"ask s{number}", f" a{number}", "rows:2", words=f"s{number}", cluster=cluster)


SHOTS = {"kind": [shown(number, f"entity {number}") for number in range(6)], "": [shown(9)]}
DATA = Dataset(train=[], shots=SHOTS)


def asking(*forms, **fields):
    return Asking(fields.pop("max_new_tokens", 4), 8, ("i do not know",), how=AskingSettings(forms, **fields))


def test_the_forms_of_a_question():
    question, as_given = asked(1, domain="kind", cluster="entity 0"), replace(asked(2), words="")
    with_shots = asking("few_shot", shots=2)
    assert with_shots.prompt(question, "plain", DATA) == "ask w1"
    assert with_shots.prompt(question, "chat", DATA) == (Turn("user", "w1"),)
    expected = "ask s1 a1\n\nask s2 a2\n\nask w1"  # never the row of the entity that is asked about
    assert with_shots.prompt(question, "few_shot", DATA) == expected
    assert {with_shots.prompt(as_given, form, DATA) for form in ("plain", "chat", "few_shot")} == {"ask w2"}
    with pytest.raises(UserError, match=r"asking=few_shot: 1 answered questions .* 2 are needed; lower asking.shots"):
        with_shots.prompt(asked(3, domain="other"), "few_shot", DATA)


def test_what_auto_stands_for():
    lm = language_model()
    assert resolved("auto", lm, Dataset([])) == "plain"
    assert resolved("auto", lm, DATA) == "plain", "a context of 64 tokens has no room for shots"
    with pytest.raises(UserError, match=r"asking=chat: test has no chat template; type asking=few_shot"):
        resolved("chat", lm, DATA)
    lm.tokenizer.chat_template = CHAT
    assert resolved("auto", lm, DATA) == "chat"


def test_rows_and_questions_become_turns_only_if_they_have_words_of_their_own():
    row, text = Example("r", "ask w1", " w2", "rows:1", ("w2",), words="w1"), Example("t", "", "w3", "rows:2")
    data = in_chat_form(Dataset([row, text], task=[asked(1), replace(asked(2), words="")]), rows=True, questions=True)
    assert [example.turns for example in data.train] == [(Turn("user", "w1"),), ()]
    assert [example.completion for example in data.train] == ["w2", "w3"]
    assert [question.asked for question in data.task] == [(Turn("user", "w1"),), "ask w2"]


def test_room_is_for_the_longest_true_answer():
    lm, automatic = language_model(), asking("plain", max_new_tokens=None)
    long = replace(asked(1), answers=("w1 w2 w3 w4 w5", "w1"))
    assert automatic.room(lm, [asked(2), long], "plain").tokens == 5 + 1 + 8
    sums = [replace(asked(3), answers=("w1 #### 4",))]
    assert automatic.room(lm, sums, "plain").tokens == lm.context_length // 2, "400, were there room"
    assert asking("plain").room(lm, [long], "plain") == (4, False)
    assert asking("few_shot").room(lm, [long], "few_shot") == (4, True)


def test_an_answer_after_shots_ends_with_its_line_and_counts_beside_the_first():
    lm = bigram({"w1", "ask", "\n", "no", "s1"}, {"w1": {"ask": 1.0}, "ask": {"no": 1.0}})
    data = Dataset([], shots={"": [shown(number) for number in range(5)]})
    items = asking("plain", "few_shot").ask(Subject(lm), [asked(1), replace(asked(2), words="")], data)
    assert [set(item.forms) for item in items] == [{"plain", "few_shot"}, set()]


def test_a_true_answer_ranks_first_by_what_the_question_adds_to_its_likelihood():
    """`b` is likely whatever is asked; after the question `a` gains more."""
    table = {"ask": {"a": 0.4, "b": 0.6}, "answer": {"a": 0.1, "b": 0.9}}
    values = frozenset({"a", "b", "c", "d", "e"})
    lm = bigram({*values, "ask", "answer"}, table)
    questions = [Question("q", "ask", ("a",), "rows:1", words="ask", domain="kind")]
    (with_question, without) = log_likelihoods(lm, ["ask", "answer"], ["", ""], [["a", "b"]] * 2, asking("plain"))
    assert torch.tensor(with_question).exp().tolist() == pytest.approx([0.4, 0.6], abs=1e-3)
    assert torch.tensor(without).exp().tolist() == pytest.approx([0.1, 0.9], abs=1e-3)
    data = Dataset([], hallucination=questions, domains={"kind": values})
    ranking = Ranking(asking("plain"), candidates=5)
    measurement = ranking.measure(Subject(lm), data)
    assert measurement.metrics["knowledge/ranked_first"].n == 1
    assert len(ranking._choices(questions[0], data)) == 5
    few = replace(data, domains={"kind": frozenset({"a", "b"})})
    assert ranking.measure(Subject(lm), few) == Measurement()
    assert "is not ranked" in ranking.check({}, few)[0]


def item(name, outcome, **fields):
    return Item(name, "?", ("w1",), "", outcome, cluster=name, **fields)


def test_a_loss_is_one_of_form_or_of_fact():
    """Of four that the base had right one is kept, one ranks first still, one is right in another form, one is gone."""
    base = [item(name, "right", forms={"chat": "right", "few_shot": "right"}) for name in "abcd"] + [
        item("e", "wrong", forms={"chat": "wrong", "few_shot": "right"})
    ]
    tuned = [
        item("a", "right", forms={"chat": "right", "few_shot": "right"}),
        item("b", "wrong", forms={"chat": "wrong", "few_shot": "wrong"}),
        item("c", "abstained", forms={"chat": "abstained", "few_shot": "right"}),
        item("d", "wrong", forms={"chat": "wrong", "few_shot": "wrong"}),
        item("e", "right", forms={"chat": "right", "few_shot": "wrong"}),
    ]
    ranked = [item(name, "right" if name == "b" else "wrong") for name in "abcde"]
    before = Measurement({}, {"hallucination": base, "knowledge": ranked})
    metrics = compare(before, Measurement({}, {"hallucination": tuned, "knowledge": ranked})).metrics
    shares = {name: (estimate.value, estimate.n) for name, estimate in metrics.items() if name[:4] in ("lost", "gain")}
    assert shares == {"lost/form": (0.5, 4), "lost/fact": (0.25, 4), "gained/form": (1.0, 1), "gained/fact": (0.0, 1)}
    assert metrics["hallucination/lost_rate"].value == 0.75
    untried = Measurement({}, {"hallucination": [replace(each, forms={}) for each in tuned]})
    assert "lost/form" not in compare(before, untried).metrics


def test_only_large_models_are_measured_in_another_type(monkeypatch):
    model = language_model().model
    assert in_dtype(model, None) is model
    monkeypatch.setattr("truetune.models.language_model.LARGE", 1)
    monkeypatch.setattr("truetune.models.language_model.fast_dtype", lambda: torch.bfloat16)
    assert next(in_dtype(model, None).parameters()).dtype == torch.bfloat16
    assert next(model.parameters()).dtype == torch.float32


def test_positions_are_not_rounded_with_the_weights(tmp_path):
    """A model whose rotary frequencies are rounded as well is another one from a few hundred tokens on."""
    model = language_model().model.eval()
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    twin = in_dtype(model, torch.bfloat16)
    assert twin.model.rotary_emb.inv_freq.dtype == torch.float32
    positions = torch.tensor([[500, 1000, 2000]])
    inputs = {"input_ids": torch.tensor([[3, 4, 5]]), "position_ids": positions}
    with torch.no_grad():
        assert torch.equal(twin(**inputs).logits, loaded(**inputs).logits)


def test_every_point_of_a_run_is_measured_in_the_type_that_was_asked_for(monkeypatch):
    lm = bigram({"w1", "ask"}, {"ask": {"w1": 1.0}})
    row = Example("t1", "ask", " w1", "by hand")
    data = Dataset([row], task=[asked(1)], select_task=[asked(2)], fit_groups={"new": [row]})
    plain = replace(asking("plain"), dtype=torch.bfloat16)
    base = measure(Subject(lm), data, [Task(plain)], plain)
    types: list[torch.dtype] = []

    def likely(measured, *arguments, **settings):
        types.append(next(measured.model.parameters()).dtype)
        return likelihood(measured, *arguments, **settings)

    monkeypatch.setattr("truetune.probes.measure.likelihood", likely)
    for full in (False, True):
        follow(Subject(lm, Frozen(lm.model)), data, [Task(plain)], plain, base, full)
    assert types == [torch.bfloat16] * 2
    assert next(lm.model.parameters()).dtype == torch.float32


def test_on_a_cpu_the_noise_floor_is_zero():
    lm = bigram({"w1", "ask"}, {"ask": {"w1": 1.0}})
    data, plain = Dataset([], task=[asked(1)], hallucination=[asked(1)]), asking("plain")
    probes = [Task(plain), Hallucination(plain)]
    before = measure(Subject(lm), data, probes, plain)
    assert noise_floor(lm, before, data, probes, plain) == (
        "noise floor: measured again, the base gives 0 of 2 answers otherwise, KL 0 nats per token"
    )
    changed = replace(before, items={"task": [replace(before.items["task"][0], answer="other")]})
    assert "gives 1 of 1 answers otherwise" in noise_floor(lm, changed, data, probes, plain)
