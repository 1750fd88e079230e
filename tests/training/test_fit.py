"""The Trainer around the module: validation, the best checkpoint, and what is said of wrong arguments."""

import pytest
import torch
from lightning import LightningDataModule
from lightning.pytorch.callbacks import ModelCheckpoint
from training.small import gradient, language_model, loader, recording, rows, train

from truetune.data.module import TokenizedData
from truetune.errors import UserError
from truetune.training.fit import fit, make_trainer, take_weights
from truetune.training.measuring import Measuring
from truetune.training.module import FineTuning
from truetune.training.objectives import NextToken
from truetune.training.schedules import Constant, Steps


def fitted(lm, data: LightningDataModule, epochs=1, lr=0.1, callbacks=(), **trainer):
    steps = len(data.train_dataloader())
    module = FineTuning(lm.model, [NextToken()], recording([], lr=lr), Constant(), Steps(steps, epochs))
    options = {"max_epochs": epochs, "accelerator": "cpu", **trainer}
    trainer = make_trainer(options, callbacks)
    fit(trainer, module, data, seed=0)
    return module, trainer


@pytest.mark.parametrize("batch", [1, 4, 9])
def test_validation_loss_is_the_mean_over_all_tokens_whatever_the_batch(batch):
    lm = language_model()
    held_out = rows(lm)
    data = TokenizedData(rows(lm), held_out, pad=0, seed=0, loader=loader(batch))
    module, trainer = fitted(lm, data, epochs=2, num_sanity_val_steps=0)
    expected = float(gradient(lm, held_out)[0])
    assert float(trainer.callback_metrics["val/loss"]) == pytest.approx(expected, rel=1e-5)
    assert module.training


def test_the_score_is_the_negative_validation_loss_without_questions():
    lm, history = language_model(), []
    data = TokenizedData(rows(lm), rows(lm)[:3], pad=0, seed=0, loader=loader(9))
    fitted(lm, data, callbacks=[Measuring(frozenset(), lambda _: {}, history)])
    metrics = history[0]["metrics"]
    assert metrics["val/score"] == -metrics["val/loss"]
    assert metrics["val/loss"] == pytest.approx(float(gradient(lm, rows(lm)[:3])[0]), rel=1e-5)


def test_the_best_weights_come_back(tmp_path):
    lm, kept = language_model(), []
    scores = iter([0.1, 0.9, 0.5])

    def probe(_):
        kept.append([p.detach().clone() for p in lm.model.parameters()])
        return {"val/score": next(scores)}

    best = ModelCheckpoint(dirpath=tmp_path, monitor="val/score", mode="max", save_on_train_epoch_end=True)
    data = TokenizedData(rows(lm), [], pad=0, seed=0, loader=loader(9))
    module, trainer = fitted(lm, data, epochs=3, callbacks=[Measuring(frozenset(), probe, []), best])
    last = [p.detach().clone() for p in lm.model.parameters()]
    assert take_weights(trainer, module, "best") == (2 * trainer.global_step // 3, 2), (
        "after the second of three epochs"
    )
    now = list(lm.model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(now, kept[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(now, last, strict=True))


def test_without_a_checkpoint_there_is_no_best():
    lm = language_model()
    module, trainer = fitted(lm, TokenizedData(rows(lm), [], pad=0, seed=0, loader=loader(9)))
    with pytest.raises(UserError, match=r"run\.final=best needs a ModelCheckpoint"):
        take_weights(trainer, module, "best")


@pytest.mark.parametrize(
    "options",
    [{"nonsense": 1}, {"accelerator": "abacus"}, {"precision": "17"}, {"max_epochs": -7}],
)
def test_what_lightning_refuses_is_one_line(options):
    with pytest.raises(UserError) as caught:
        make_trainer({"accelerator": "cpu", **options})
    assert str(caught.value).startswith("trainer: ")
    assert "\n" not in str(caught.value)


def test_the_seed_decides_dropout():
    def weights(seed):
        lm = language_model()
        lm.model.config.attention_dropout = 0.5
        for layer in lm.model.model.layers:
            layer.self_attn.attention_dropout = 0.5
        module = FineTuning(lm.model, [NextToken()], recording([]), Constant(), Steps(1, 1))
        data = TokenizedData(rows(lm), [], pad=0, seed=0, loader=loader(9))
        fit(make_trainer({"max_epochs": 1, "accelerator": "cpu"}), module, data, seed=seed)
        return [p.detach().clone() for p in lm.model.parameters()]

    same, again, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(a, b) for a, b in zip(same, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(same, other, strict=True))


def test_a_callers_random_state_does_not_change_the_run():
    def weights(draws):
        torch.rand(draws)
        lm = language_model()
        train(lm, rows(lm), batch=3)
        return [p.detach().clone() for p in lm.model.parameters()]

    assert all(torch.equal(a, b) for a, b in zip(weights(1), weights(7), strict=True))
