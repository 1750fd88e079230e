"""What holds on to the base: each objective against its definition, written out the slow way."""

import pytest
import torch
from training.small import bound, language_model, rows

from truetune.data.batch import collate
from truetune.data.dataset import Dataset, Example
from truetune.errors import UserError
from truetune.extensions.ewc import Ewc, fisher
from truetune.extensions.self_distill import SelfDistill
from truetune.extensions.snapshot_kl import SnapshotKl
from truetune.methods.keep_close import KlOnWeightless, L2Sp
from truetune.methods.reference import Reference, drawn_texts
from truetune.models.frozen import Frozen
from truetune.models.logits import kl_nats
from truetune.training.objectives import Micro


def micro_of(lm, batch):
    logits = lm.model(input_ids=batch["input_ids"], use_cache=False).logits
    return Micro(lm.model, logits, batch["labels"], batch["input_ids"], batch["attention_mask"], batch["weights"])


def moved(lm, by=0.05):
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in lm.model.parameters():
            parameter.add_(by * torch.randn_like(parameter))
    return lm


@pytest.fixture
def lm():
    made = language_model()
    made.model.eval()
    return made


def batch_of(lm, weights=(0.0, 1.0, 0.0), prompt="w0"):
    batch = collate(rows(lm, ["w1 w2", "w3 w4 w5", "w7"], prompt), 0)
    return {**batch, "weights": torch.tensor(weights).unsqueeze(1).expand_as(batch["input_ids"])}


def test_self_replay_is_the_kl_on_drawn_rows_alone(lm):
    objective = bound(KlOnWeightless(1.0), Frozen(lm.copy().model))
    batch = batch_of(lm)
    assert float(objective(micro_of(lm, batch))) == pytest.approx(0, abs=1e-6)
    base = Frozen(lm.copy().model)
    micro = micro_of(moved(lm), batch)
    expected = 0.0
    for row in (0, 2):
        p, q = base.logits(micro.input_ids_BT, micro.attention_mask_BT)[row, :-1], micro.logits_BTV[row, :-1]
        expected += float((kl_nats(p, q) * micro.is_target_BT[row]).sum())
    assert float(objective(micro)) == pytest.approx(expected, rel=1e-5)
    nothing = objective(micro_of(lm, batch_of(lm, (1.0, 1.0, 1.0))))
    assert float(nothing) == 0
    nothing.backward()


def test_self_distillation_is_the_kl_to_the_teacher_it_was_given(lm):
    asked, teacher = [], Frozen(moved(language_model()).model)
    objective = SelfDistill(weight=2.0, epochs=3)
    bound(objective, None, teacher=lambda *wanted: asked.append(wanted) or teacher)
    assert asked == [(3,)]
    micro = micro_of(lm, batch_of(lm))
    p = teacher.logits(micro.input_ids_BT, micro.attention_mask_BT)[:, :-1]
    expected = (kl_nats(p, micro.logits_BTV[:, :-1]) * micro.is_target_BT).sum()
    assert float(objective(micro)) == pytest.approx(float(expected), rel=1e-5)
    assert float(expected) > 0


def test_the_snapshot_is_held_at_a_temperature(lm):
    asked, snapshot = [], Frozen(moved(language_model()).model)
    objective = SnapshotKl(weight=1.0, epochs=1, temperature=0.5)
    bound(objective, None, teacher=lambda *wanted: asked.append(wanted) or snapshot)
    assert asked == [(1, "all")]
    micro = micro_of(lm, batch_of(lm))
    p = snapshot.logits(micro.input_ids_BT, micro.attention_mask_BT)[:, :-1]
    log_p, log_q = (2 * p).log_softmax(-1), (2 * micro.logits_BTV[:, :-1]).log_softmax(-1)
    expected = ((log_p.exp() * (log_p - log_q)).sum(-1) * micro.is_target_BT).sum()
    assert float(objective(micro)) == pytest.approx(float(expected), rel=1e-5)
    assert float(expected) > 0


def exact_fisher(lm, row):
    """Of a row with one predicted token: sum over the vocabulary of p(y) (d log p(y))^2."""
    model = Frozen(lm.copy().model).trainable()
    log_p = model(input_ids=row["input_ids"], use_cache=False).logits[0, 0].log_softmax(-1)
    found = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for y in range(len(log_p)):
        grads = torch.autograd.grad(log_p[y], list(model.parameters()), retain_graph=True)
        for name, grad in zip(found, grads, strict=True):
            found[name] += float(log_p[y].detach().exp()) * grad.pow(2)
    return found


def test_the_fisher_information_is_that_of_the_model(lm):
    one = {**collate(rows(lm, ["w1"], "w0"), 0)}
    one["input_ids"] = one["input_ids"][:, :2]
    exact = exact_fisher(lm, one)
    found = fisher(Frozen(lm.copy().model), [one] * 600)
    for name in ("lm_head.weight", "model.embed_tokens.weight", "model.norm.weight"):
        if name in exact:
            assert float(found[name].sum()) == pytest.approx(float(exact[name].sum()), rel=0.2), name
    assert all((value >= 0).all() for value in found.values())
    assert fisher(Frozen(lm.copy().model), [one] * 3)["model.norm.weight"].equal(
        fisher(Frozen(lm.copy().model), [one] * 3)["model.norm.weight"]
    )


def test_ewc_weighs_each_squared_distance_with_its_information(lm):
    texts = [collate(rows(lm, [text], ""), 0) for text in ("w1 w2", "w4 w5 w6")]
    base, asked = Frozen(lm.copy().model), []
    ewc = Ewc(weight=1.0, texts=2, max_tokens=8)
    bound(ewc, base, old_texts=lambda count, length: asked.append((count, length)) or texts)
    assert asked == [(2, 8)]
    total = sum(value.numel() for value in ewc.fisher.values())
    assert sum(float(value.sum()) for value in ewc.fisher.values()) / total == pytest.approx(1, rel=1e-4)
    micro = micro_of(lm, batch_of(lm))
    assert float(ewc(micro)) == 0
    micro = micro_of(moved(lm), batch_of(lm))
    start = base.parameters()
    by_hand = sum((ewc.fisher[n] * (p - start[n]) ** 2).sum() for n, p in lm.model.named_parameters())
    assert float(ewc(micro)) == pytest.approx(float(by_hand) / 2 * int(micro.target_tokens), rel=1e-5)
    ewc.fisher = {name: torch.ones_like(value) for name, value in ewc.fisher.items()}
    assert float(ewc(micro)) == pytest.approx(float(bound(L2Sp(1.0), base)(micro)), rel=1e-5)


def reference(lm, data, known=frozenset()):
    optimizer = lambda parameters: torch.optim.SGD(parameters, lr=0.5)  # noqa: E731
    return Reference(lm, data, known, 2, 0, optimizer, {"accelerator": "cpu"}, lambda _: None)


def test_the_teacher_learns_known_rows_and_the_base_stays(lm):
    train = [Example(f"r{n}", "w0", f" w{n}", "here") for n in range(1, 5)]
    before = {name: value.clone() for name, value in lm.model.state_dict().items()}
    made = reference(lm, Dataset(train), frozenset({"r1", "r2"}))
    teacher = made.teacher(3)
    assert all(value.equal(before[name]) for name, value in lm.model.state_dict().items())
    batch = batch_of(lm)
    assert not teacher.logits(batch["input_ids"], batch["attention_mask"]).allclose(
        made.frozen.logits(batch["input_ids"], batch["attention_mask"])
    )
    with pytest.raises(UserError, match="knows none of the facts"):
        reference(lm, Dataset(train)).teacher(1)


def test_without_pretraining_old_texts_are_drawn_from_the_base(lm):
    texts = drawn_texts(lm, 40, 5, seed=0)
    assert 20 < len(texts) <= 40
    assert all(0 < len(text.split()) <= 5 for text in texts)
    assert texts == drawn_texts(lm, 40, 5, seed=0) != drawn_texts(lm, 40, 5, seed=1)
    assert len(list(reference(lm, Dataset([])).old_texts(10, 5))) == len(drawn_texts(lm, 10, 5, seed=0))
