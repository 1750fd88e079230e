"""One step is the mean over the target tokens of the whole window, however it is cut into micro-batches."""

from dataclasses import replace

import pytest
import torch
from training.small import gradient, language_model, recording, rows, train

from truetune.errors import Diverged


def after(batch, accumulate, lm=None, data=None, epochs=2):
    lm = lm or language_model(torch.float64)
    train(
        lm,
        data or rows(lm, ["w1 w2", "w3 w4 w5 w6", "w7", "w8 w9 w1", "w2 w3 w4 w5 w6 w7", "w8 w9", "w4 w1 w1", "w2"]),
        batch=batch,
        epochs=epochs,
        accumulate_grad_batches=accumulate,
        precision="64-true",
    )
    return [p.detach() for p in lm.model.parameters()]


@pytest.mark.parametrize(("batch", "accumulate"), [(4, 2), (2, 4), (1, 8)])
def test_micro_batches_take_the_same_step(batch, accumulate):
    torch.testing.assert_close(after(batch, accumulate), after(8, 1), rtol=1e-9, atol=1e-11)


def test_a_short_last_window_counts_its_own_tokens():
    # Nine rows: windows of four and of one; the same as four single steps of the same windows.
    lm = language_model(torch.float64)
    data = rows(lm)
    small = after(1, 4, lm, data, epochs=1)
    other = language_model(torch.float64)
    torch.testing.assert_close(small, after(4, 1, other, rows(other), epochs=1), rtol=1e-9, atol=1e-11)


def test_the_step_is_the_mean_over_tokens():
    lm = language_model(torch.float64)
    data, start = rows(lm), [p.detach().clone() for p in lm.model.parameters()]
    _, expected = gradient(lm, data)
    train(lm, data, precision="64-true")
    moved = [(before - now.detach()) / 0.1 for before, now in zip(start, lm.model.parameters(), strict=True)]
    torch.testing.assert_close(moved, list(expected), rtol=1e-4, atol=1e-7)


def test_a_micro_batch_without_targets_adds_nothing():
    lm, other = language_model(torch.float64), language_model(torch.float64)
    data = rows(lm)[:4]
    silent = [replace(row, prompt_length=len(row.input_ids)) for row in rows(lm)[4:6]]
    with_silent = after(2, 3, lm, [*data[:2], *silent, *data[2:]], epochs=1)
    torch.testing.assert_close(with_silent, after(2, 2, other, data, epochs=1), rtol=1e-9, atol=1e-11)


def test_a_window_without_targets_stops_the_run():
    lm = language_model()
    silent = [replace(row, prompt_length=len(row.input_ids)) for row in rows(lm)]
    with pytest.raises(Diverged, match="no target token"):
        train(lm, silent, optimizer=recording([]))


def test_an_example_of_weight_zero_is_not_learnt():
    lm, other = language_model(torch.float64), language_model(torch.float64)
    data = rows(lm)
    nothing = [replace(row, weight=0.0) for row in data]
    before = [p.detach().clone() for p in lm.model.parameters()]
    torch.testing.assert_close(after(9, 1, lm, nothing, epochs=1), before)
    halves = [replace(row, weight=0.5) for row in data]
    seen, plain = [], []
    train(lm, halves, optimizer=recording(seen), precision="64-true")
    train(other, data, optimizer=recording(plain), precision="64-true")
    torch.testing.assert_close(seen[0][1], [g / 2 for g in plain[0][1]])


@pytest.mark.parametrize("rows_left", [1, 2, 3])
def test_a_short_last_window_of_several_micro_batches(rows_left):
    texts = ["w1 w2", "w3 w4 w5 w6", "w7", "w8 w9 w1", "w2 w3 w4 w5 w6 w7", "w8", "w4 w1 w1"][: 4 + rows_left]
    ends = []
    for batch, accumulate in ((1, 4), (4, 1)):
        lm = language_model(torch.float64)
        ends.append(after(batch, accumulate, lm, rows(lm, texts), epochs=2))
    torch.testing.assert_close(*ends, rtol=1e-9, atol=1e-11)


def test_every_step_is_the_gradient_of_its_window_and_none_is_left_over():
    lm, other, seen = language_model(torch.float64), language_model(torch.float64), []
    data = rows(lm)
    module = train(lm, data, batch=2, accumulate_grad_batches=2, optimizer=recording(seen), precision="64-true")
    assert len(seen) == 3  # windows of 4, 4 and 1 rows
    for (_, found), window in zip(seen, (data[:4], data[4:8], data[8:]), strict=True):
        loss, expected = gradient(other, window)
        # The nll is taken in float32, so this is not exact to the last bit of float64.
        torch.testing.assert_close(found, list(expected), rtol=1e-4, atol=1e-7)
        with torch.no_grad():
            for parameter, step in zip(other.model.parameters(), found, strict=True):
                parameter.sub_(0.1 * step)
    assert module.window_loss == pytest.approx(float(loss), rel=1e-5)
    assert module.window_tokens == data[8].target_tokens
