"""The base as a reference through a whole fit: it pulls, it never moves, and nothing stores it."""

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from training.small import bound, language_model, recording, rows, train

from truetune.data.batch import collate
from truetune.extensions.ewc import Ewc
from truetune.methods.keep_close import KlToBase, L2Sp
from truetune.models.frozen import Frozen
from truetune.training.checkpoints import AtomicCheckpointIO
from truetune.training.objectives import NextToken


def both(reference, kl=0.5, l2=0.1):
    return [NextToken(), bound(KlToBase(weight=kl), reference), bound(L2Sp(weight=l2), reference)]


def distance(lm, start):
    return float(sum((p.detach() - s).pow(2).sum() for p, s in zip(lm.model.parameters(), start, strict=True)))


def test_no_checkpoint_parameter_or_optimizer_holds_the_reference(tmp_path):
    lm = language_model()
    reference, names = Frozen(lm.copy().model), {f"model.{name}" for name in lm.model.state_dict()}
    before = {name: value.clone() for name, value in reference.parameters().items()}
    keep = ModelCheckpoint(dirpath=tmp_path, filename="last", enable_version_counter=False)
    given = []

    def optimizer(parameters):
        given.extend(parameters)
        return torch.optim.AdamW(given, lr=0.1)

    module = train(lm, rows(lm), objectives=both(reference), optimizer=optimizer, epochs=3, callbacks=[keep])
    assert set(module.state_dict()) == names
    assert {id(p) for p in module.parameters()} == {id(p) for p in lm.model.parameters()} == {id(p) for p in given}
    stored = AtomicCheckpointIO().load_checkpoint(tmp_path / "last.ckpt")
    assert set(stored["state_dict"]) == names
    assert len(stored["optimizer_states"][0]["state"]) == len(given)
    after = reference.parameters()
    assert all(torch.equal(value, after[name]) and value.grad is None for name, value in before.items())
    assert distance(lm, before.values()) > 1, "the model has moved, away from it"


def test_training_beside_the_base_itself_leaves_it_untouched():
    base = language_model()
    before = {name: value.clone() for name, value in base.model.state_dict().items()}
    tuned, reference = base.copy(), Frozen(base.model)
    texts = [collate(rows(base)[:1], 0)]
    ewc = bound(Ewc(weight=0.1, texts=1, max_tokens=8), reference, old_texts=lambda count, length: texts)
    train(tuned, rows(base), objectives=[*both(reference), ewc], epochs=3)
    assert distance(tuned, [before[name] for name, _ in tuned.model.named_parameters()]) > 0.01
    assert all(torch.equal(value, before[name]) for name, value in base.model.state_dict().items())
    assert all(parameter.grad is None for parameter in base.model.parameters())


@pytest.mark.parametrize(("kl", "l2"), [(20.0, 0.0), (0.0, 2.0)])
def test_a_reference_holds_the_model_back(kl, l2):
    moved = []
    for share in (0.0, 1.0):
        lm = language_model()
        start = [p.detach().clone() for p in lm.model.parameters()]
        train(lm, rows(lm), objectives=both(Frozen(lm.copy().model), share * kl, share * l2), epochs=10)
        moved.append(distance(lm, start))
    assert moved[1] < 0.8 * moved[0]


@pytest.mark.parametrize(("batch", "accumulate"), [(3, 3), (1, 9)])
def test_accumulation_changes_neither_pull(batch, accumulate):
    """In the second and third step the model is away from the base, so both terms have gradients."""

    def weights(batch, accumulate):
        lm, seen = language_model(torch.float64), []
        reference = Frozen(lm.copy().model)
        train(
            lm,
            rows(lm),
            batch=batch,
            epochs=3,
            objectives=both(reference, kl=5.0, l2=3.0),
            optimizer=recording(seen),
            accumulate_grad_batches=accumulate,
            precision="64-true",
        )
        return seen

    # Logits are compared in single precision, whatever the weights are.
    torch.testing.assert_close(weights(batch, accumulate), weights(9, 1), rtol=1e-5, atol=1e-8)
