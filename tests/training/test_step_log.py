"""What is logged at each step is what happened in the Trainer, recomputed by hand from recorded gradients."""

from itertools import pairwise

import pytest
import torch
from training.small import Watch, gradient, language_model, recording, rows, train

from truetune.training.measuring import Measuring, epochs_to_measure
from truetune.training.step_log import StepLog


def size(tensors):
    return float(torch.sqrt(sum(t.double().pow(2).sum() for t in tensors)))


def logged(every, **clip):
    """Nine steps of one row each: the history, the gradients that the optimizer got, the weights, the module."""
    lm, seen, watch, history = language_model(), [], Watch(), []
    watch.weights.append([p.detach().clone() for p in lm.model.parameters()])
    module = train(
        lm,
        rows(lm),
        batch=1,
        optimizer=recording(seen),
        callbacks=[watch, StepLog(history, every=every)],
        **clip,
    )
    return history, [gradients for _, gradients in seen], watch.weights, module


def column(history, name):
    return [row["metrics"][f"train/{name}"] for row in history]


def test_loss_norm_rate_and_update_ratio_of_every_step():
    history, gradients, weights, _ = logged(1)
    assert [row["step"] for row in history] == list(range(1, 10))
    assert {row["epoch"] for row in history} == {1}
    assert column(history, "grad_norm") == pytest.approx([size(g) for g in gradients], rel=1e-4)
    # Plain gradient descent: the update is the rate times the gradient.
    ratios = [0.1 * size(g) / size(before) for g, before in zip(gradients, weights[:-1], strict=True)]
    assert column(history, "update_to_weight_ratio") == pytest.approx(ratios, rel=1e-3)
    assert column(history, "learning_rate") == pytest.approx([0.1] * 9)
    assert column(history, "clipped_fraction") == [0] * 9
    lm = language_model()
    for row, before, loss in zip(rows(lm), weights, column(history, "loss"), strict=False):
        with torch.no_grad():
            for parameter, value in zip(lm.model.parameters(), before, strict=True):
                parameter.copy_(value)
        assert loss == pytest.approx(float(gradient(lm, [row])[0]), rel=1e-4)


def test_each_step_of_a_short_run_is_logged_and_every_tenth_of_a_long_one(monkeypatch):
    assert [row["step"] for row in logged(None)[0]] == list(range(1, 10))
    monkeypatch.setattr("truetune.training.step_log.SHORT", 0)
    assert [row["step"] for row in logged(None)[0]] == [9]


def test_the_share_of_clipped_steps_counts_those_since_the_last_line():
    norms = column(logged(1)[0], "grad_norm")
    limit = sorted(norms)[4] * 1.0001
    each, *_ = logged(1, gradient_clip_val=limit, gradient_clip_algorithm="norm")
    beyond = [float(norm > limit) for norm in column(each, "grad_norm")]
    assert 0 < sum(beyond) < 9
    assert column(each, "clipped_fraction") == beyond
    third, gradients, _, _ = logged(3, gradient_clip_val=limit, gradient_clip_algorithm="norm")
    assert [row["step"] for row in third] == [3, 6, 9]
    assert column(third, "clipped_fraction") == pytest.approx([sum(beyond[n : n + 3]) / 3 for n in (0, 3, 6)])
    for norm, after, clipped in zip(column(each, "grad_norm"), gradients, beyond, strict=True):
        assert size(after) == pytest.approx(limit if clipped else norm, rel=1e-3)


def test_weights_are_kept_for_the_ratio_only_once_all_gradients_are_there(monkeypatch):
    seen, before_step = [], StepLog.on_before_optimizer_step

    def watched(log, trainer, module, optimizer):
        before_step(log, trainer, module, optimizer)
        if log._before is not None:
            seen.append(all(parameter.grad is not None for parameter in module.parameters()))

    monkeypatch.setattr(StepLog, "on_before_optimizer_step", watched)
    history, *_ = logged(3)
    assert seen == [True] * len(history) == [True] * 3


def test_the_ratio_is_of_the_logged_step_alone():
    history, gradients, weights, _ = logged(3)
    expected = [0.1 * size(gradients[n]) / size(weights[n]) for n in (2, 5, 8)]
    assert column(history, "update_to_weight_ratio") == pytest.approx(expected, rel=1e-3)


def test_clipped_elements_are_those_that_sit_at_the_limit():
    limit = 0.01
    history, gradients, _, _ = logged(1, gradient_clip_val=limit, gradient_clip_algorithm="value")
    at_limit = [sum(int((g.abs() >= limit).sum()) for g in step) / sum(g.numel() for g in step) for step in gradients]
    assert 0 < at_limit[0] < 1
    assert column(history, "clipped_element_fraction") == pytest.approx(at_limit)
    assert column(history, "clipped_fraction") == [1] * 9


def test_micro_batches_make_one_line_a_step():
    lm, history = language_model(), []
    train(lm, rows(lm), batch=1, epochs=2, accumulate_grad_batches=4, callbacks=[StepLog(history)])
    assert [(row["step"], row["epoch"]) for row in history] == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2)]


def test_measuring_asks_every_epoch_and_all_probes_at_the_chosen_ones():
    lm, history, asked = language_model(), [], []

    def probe(everything):
        asked.append(everything)
        return {"x": 1.0}

    module = train(lm, rows(lm), epochs=3, callbacks=[Measuring(frozenset({1, 3}), probe, history)])
    assert asked == [True, False, True]
    assert [(row["step"], row["epoch"]) for row in history] == [(1, 1), (2, 2), (3, 3)]
    # Without validation rows the training loss stands in for the score.
    assert history[-1]["metrics"] == {"x": 1.0, "val/score": -module.window_loss}


@pytest.mark.parametrize(("last", "points"), [(1, 1), (5, 9), (10, 3), (100, 8), (50, 1), (1000, 20)])
def test_measured_epochs_begin_at_one_end_at_the_last_and_are_about_as_many_as_asked(last, points):
    epochs = sorted(epochs_to_measure(last, points))
    assert (epochs[0], epochs[-1]) == (1, last)
    assert len(epochs) <= max(points, 2)
    gaps = [b - a for a, b in pairwise(epochs)]
    assert gaps == sorted(gaps)


@pytest.mark.parametrize(("limits", "last"), [({}, 9), ({"max_steps": 5}, 5)])
def test_a_fit_shorter_than_its_interval_still_has_its_last_line(limits, last):
    history, *_ = logged(50, **limits)
    each, *_ = logged(1, **limits)
    assert [(row["step"], row["epoch"]) for row in history] == [(last, 1)]
    for name in ("loss", "grad_norm", "learning_rate"):
        assert column(history, name) == column(each, name)[-1:]
    assert ("train/update_to_weight_ratio" in history[0]["metrics"]) == (last == 9)


def test_the_last_line_is_written_once():
    history, *_ = logged(3)
    assert [row["step"] for row in history] == [3, 6, 9]


def test_groups_of_parameters_keep_their_own_settings():
    def grouped(parameters):
        matrices, gains = ([p for p in parameters if (p.ndim > 1) == wanted] for wanted in (True, False))
        return torch.optim.AdamW([{"params": matrices, "weight_decay": 0.3}, {"params": gains, "weight_decay": 0}], 0.1)

    lm = language_model()
    module = train(lm, rows(lm), optimizer=grouped)
    assert [group["weight_decay"] for group in module.optimizers().param_groups] == [0.3, 0]
