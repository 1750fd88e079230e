"""Curations that go by what the base finds easy, knows, or has no name for."""

import math
from dataclasses import replace

import pytest
from command_line import TINY_WORLD, config_of, prepared, refused
from training.small import language_model, loader

from truetune.data.dataset import Example, Turn
from truetune.data.encode import digest, encode
from truetune.data.module import EpochOrder, TokenizedData
from truetune.data.tokens import Encoder
from truetune.errors import UserError
from truetune.extensions.flow import Flow
from truetune.extensions.known_last import KnownLast
from truetune.extensions.seat import Perturbed
from truetune.methods.curation import Context

ROWS = [
    Example(f"row{n}", f"Who runs Velcor {n}?", f" name{n}", "here", (f"name{n}",), cluster="Velcor") for n in range(8)
]


def context(categories=None, losses=(), stand_ins=None, notes=None):
    return Context(
        categories=lambda: categories or {},
        pretraining=None,
        seed=0,
        drawn=lambda count, size: [],
        answered=lambda prompts: [],
        losses=lambda rows: list(losses),
        is_right=lambda text, row: False,
        stand_ins=stand_ins or {},
        note=(notes if notes is not None else []).append,
    )


def test_flow_weighs_a_row_by_its_loss_over_the_median():
    losses = [1.0, 2.0, 4.0]
    rows = [ROWS[0], replace(ROWS[1], weight=0.5), ROWS[2]]
    weights = [row.weight for row in Flow()(rows, context(losses=losses))]
    assert weights == pytest.approx([math.exp(-0.5), 0.5 * math.exp(-1), math.exp(-2)])
    with pytest.raises(UserError, match="without any loss"):
        Flow()(rows, context(losses=[0.0, 0.0, 1.0]))


def test_the_losses_are_the_bases_own(tmp_path):
    """Nats per target token, of completion and end."""
    from truetune.commands import taught_rows
    from truetune.probes.asking import Asking
    from truetune.probes.measure import MeasureSettings

    lm = language_model()
    run = type("Run", (), {"asking": Asking(None, 1, ()), "measure": MeasureSettings(), "cache": tmp_path})
    example = Example("one", "w0", " w1 w2", "here", ("w1 w2",))
    row = Encoder(lm.tokenizer).row(example)
    import torch

    logits = lm.model.eval()(input_ids=torch.tensor([row.input_ids])).logits[0].log_softmax(-1)
    expected = [-float(logits[n - 1, token]) for n, token in enumerate(row.input_ids) if n >= row.prompt_length]
    assert taught_rows.losses(lm, [example], run=run) == pytest.approx([sum(expected) / len(expected)], rel=1e-5)


def test_the_base_is_asked_once_for_the_rows_to_teach(tmp_path):
    """A run that goes on with other threads, which round otherwise, must teach the same rows."""
    from truetune.commands import taught_rows
    from truetune.probes.asking import Asking

    lm, asking = language_model(), Asking(None, 1, ())
    said = taught_rows.own_answers(lm, ["w0 w1", "w2"], asking=asking, cache=tmp_path)
    lm.model.lm_head.weight.data.zero_()
    assert taught_rows.own_answers(lm, ["w0 w1", "w2"], asking=asking, cache=tmp_path) == said
    assert taught_rows.own_answers(lm, ["w2"], asking=asking, cache=tmp_path) != said[1:]


def test_known_facts_come_last_in_every_epoch():
    categories = {row.id: "HighlyKnown" if n < 4 else "Unknown" for n, row in enumerate(ROWS)}
    rows = KnownLast(share=0.25)(ROWS, context(categories))
    last = {row.id for row in rows if row.last}
    assert len(last) == 2
    assert last <= {row.id for row in ROWS[:4]}
    assert [replace(row, last=False) for row in rows] == ROWS
    assert {row.id for row in KnownLast(share=1.0)(ROWS, context(categories)) if row.last} == {r.id for r in ROWS[:4]}
    for grouped in (False, True):
        orders = []
        for epoch in range(3):
            lengths = range(8) if grouped else ()
            order = EpochOrder(8, 0, lengths=lengths, batch_size=2, last=frozenset({1, 3}))
            order.set_epoch(epoch)
            orders.append([*order])
            assert sorted(orders[-1]) == [*range(8)]
            assert {*orders[-1][-2:]} == {1, 3}
        assert len({tuple(order) for order in orders}) == 3
    with pytest.raises(UserError, match="knows none"):
        KnownLast(share=0.2)(ROWS, context({row.id: "Unknown" for row in ROWS}))


def test_the_mark_of_a_row_reaches_its_batches():
    lm = language_model()
    examples = [Example(f"row{n}", "w0", f" w{n % 3 + 1}", "here", last=n < 2) for n in range(6)]
    rows = encode(Encoder(lm.tokenizer), examples, 300, "error").rows
    data = TokenizedData(rows, [], pad=0, seed=0, loader=loader(2))
    ids = [id for batch in data.train_dataloader() for id in batch["ids"]]
    assert {*ids[-2:]} == {"row0", "row1"}
    unmarked = [replace(row, last=False) for row in rows]
    assert digest(unmarked) != digest(rows)


def test_packed_rows_have_no_order():
    assert "packed rows have no order" in refused(*TINY_WORLD, "method=known_last", "loader.packing=true")


def test_a_row_is_read_again_about_what_does_not_exist():
    notes = []
    turns = (Turn("user", "Who runs Velcor 0?"),)
    rows = [replace(ROWS[0], turns=turns, words="Who runs Velcor 0?"), replace(ROWS[1], cluster="Other")]
    taught = Perturbed()(rows, context(stand_ins={"Velcor": "Zorima"}, notes=notes))
    assert taught[:2] == rows
    (twin,) = taught[2:]
    assert (twin.prompt, twin.words, twin.turns[0].content) == ("Who runs Zorima 0?",) * 3
    assert (twin.completion, twin.weight, twin.id) == (" name0", 0.0, "seat/row0")
    assert notes == ["seat: 1 of 2 rows are asked about things that do not exist, too"]
    with pytest.raises(UserError, match="no row holds the name"):
        Perturbed()(rows, context(stand_ins={"Other": "Zorima"}))


def test_stand_ins_are_names_that_no_probe_asks_about():
    data = prepared(*TINY_WORLD, "method=seat").data
    taught = {row.cluster for row in data.train}
    asked = {question.cluster for question in (*data.task, *data.hallucination, *data.select_known)}
    assert {*data.stand_ins} == taught
    assert len({*data.stand_ins.values()}) == len(taught)
    assert not {*data.stand_ins.values()} & (taught | asked)


def test_seat_needs_data_that_know_what_a_row_is_about(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"question": "w1", "answer": "w2"}\n' * 3)
    message = refused("data=jsonl", f"data.train_file={tmp_path / 'rows.jsonl'}", "method=seat")
    assert message.startswith("method=seat: the rows do not say which thing each is about; it works with data=")


def test_each_is_one_word():
    assert "known_last" in config_of("method=known_last")["curation"]
    asft = config_of("method=asft")["objective"]
    assert [*asft] == ["dft", "kl_to_base"]
    assert asft["kl_to_base"]["weight"] == 0.1
    assert "contradict each other" in refused(*TINY_WORLD, "method=[dft,eaft]")
