"""Both models are asked the same, in the form that was taught, and say what they would say in the run's measurement."""

import io
import json
import sys

import pytest
import torch
from command_line import TINY_MODEL, composed
from rich.console import Console

from truetune import cli
from truetune.commands.chat import Partner, chat
from truetune.commands.chat import partners as loaded
from truetune.commands.train import train
from truetune.commands.tuned_model import saved_model
from truetune.config import run as build
from truetune.data.dataset import Turn
from truetune.errors import UserError
from truetune.probes.decoding import greedy_answers
from truetune.records.record import read_run

WORDS = (*TINY_MODEL, "model.context_length=96", "trainer.max_epochs=2", "trainer.accelerator=cpu", "optimizer.lr=1e-2")
SHORT = ("run.threads=1", "measure.points=1", "measure.max_new_tokens=2", "data=jsonl")


def finished(folder, name, rows, *words):
    """A run as the command leaves it, made in this process."""
    from omegaconf import OmegaConf

    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    cfg = composed(*WORDS, *SHORT, f"data.train_file={name}.jsonl", f"paths.cache_dir={folder / 'cache'}", *words)
    cfg.paths.output_dir = str(folder / name)
    (folder / name / ".hydra").mkdir(parents=True)
    OmegaConf.save({"hydra": {"runtime": {"cwd": str(folder)}}}, folder / name / ".hydra" / "hydra.yaml")
    train(build.build(cfg, build.prepare(cfg), folder / name), Console(file=io.StringIO()))
    return folder / name


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    talk = [
        {"messages": [{"role": "user", "content": f"Say {i}."}, {"role": "assistant", "content": f"{i}!"}]}
        for i in range(20)
    ]
    asked = [{"question": f"What is {i}?", "answer": f"{i}"} for i in range(20)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return {"messages": finished(folder, "talk", talk), "questions": finished(folder, "asked", asked)}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A run is talked to from any folder."""
    monkeypatch.chdir(tmp_path)


def partners(run_dir) -> tuple[Partner, Partner]:
    return loaded(run_dir, read_run(run_dir), saved_model(run_dir))


def said(run_dir, prompt=None, typed="", **options):
    out = io.StringIO()
    stdin, sys.stdin = sys.stdin, io.StringIO(typed)
    try:
        chat(partners(run_dir), prompt, 4, Console(file=out, width=120, **options))
    finally:
        sys.stdin = stdin
    return out.getvalue()


def test_a_prompt_gets_both_answers_with_their_probability(runs):
    text = said(runs["messages"], "Say 3.")
    base, tuned = partners(runs["messages"])
    for partner in (base, tuned):
        (answer,) = greedy_answers(partner.lm, [(Turn("user", "Say 3."),)], max_new_tokens=4, batch_size=1)
        assert f"{partner.name}: " in text
        assert answer.text in text
        assert f"mean token probability {answer.confidence:.2f}" in text
    assert "Assistant" in tuned.lm.tokenizer.chat_template, "the model folder keeps the template"


def test_a_question_is_put_as_it_was_taught(runs):
    _, tuned = partners(runs["questions"])
    pieces = []
    answer = tuned.answer("What is 3?", 4, pieces.append)
    (expected,) = greedy_answers(tuned.lm, ["Question: What is 3?\nAnswer:"], max_new_tokens=4, batch_size=1)
    assert answer == expected
    assert "".join(pieces).strip() == answer.text, "what was streamed is what was answered"
    assert len(pieces) > 1
    assert tuned.turns == []


def test_a_conversation_is_remembered_until_it_begins_again(runs):
    base, tuned = partners(runs["messages"])
    first = tuned.answer("Say 3.", 4, lambda _: None)
    second = tuned.answer("And 4?", 4, lambda _: None)
    history = (Turn("user", "Say 3."), Turn("assistant", first.text), Turn("user", "And 4?"))
    assert greedy_answers(tuned.lm, [history], max_new_tokens=4, batch_size=1) == [second]
    assert tuned.turns == [*history, Turn("assistant", second.text)]
    assert base.turns == []
    once, twice = (said(runs["messages"], typed=words) for words in ("Say 3.\n", "Say 5.\n\n/new\nSay 3.\n"))
    assert "/new to begin again" in once
    assert twice.rstrip("> \n").endswith(once.partition("> ")[2].rstrip("> \n")), "nothing is left of what was said"


def test_on_a_terminal_the_answers_stand_side_by_side(runs):
    text = said(runs["messages"], "Say 3.", force_terminal=True)
    last = text[text.rindex("base, mean") :]
    assert "tuned, mean token probability" in last.splitlines()[0]


def command(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["truetune-chat", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.chat()
    return ended.value.code, capsys.readouterr()


def test_the_command(runs, monkeypatch, capsys):
    code, shown = command(monkeypatch, capsys, runs["questions"], "--prompt", "What is 3?", "--max-new-tokens", "2")
    assert code == 0
    assert shown.out.count("mean token probability") == 2


def test_what_cannot_be_talked_to_is_one_line(runs, tmp_path, monkeypatch, capsys):
    assert command(monkeypatch, capsys, tmp_path)[0] == 2
    assert command(monkeypatch, capsys, runs["questions"], "--max-new-tokens", "0")[0] == 2
    without = tmp_path / "without"
    without.mkdir()
    (without / "run.json").write_text((runs["questions"] / "run.json").read_text())
    code, shown = command(monkeypatch, capsys, without, "--prompt", "x")
    assert code == 2
    assert shown.err.startswith(f"error: {without / 'model'}: no such folder: the run did not finish, or run.save")


def test_both_are_asked_on_a_gpu_unless_the_run_was_told_to_stay_on_the_cpu(runs, monkeypatch):
    seen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("truetune.models.language_model.LanguageModel.to", lambda lm, to: seen.append(to.type) or lm)
    record = read_run(runs["questions"])
    config = record["config"]
    for accelerator in ("auto", "cpu"):
        changed = {**config, "trainer": {**config["trainer"], "accelerator": accelerator}}
        loaded(runs["questions"], {**record, "config": changed}, saved_model(runs["questions"]))
    assert seen == ["cuda", "cuda", "cpu", "cpu"]


def test_a_model_is_loaded_in_the_precision_that_it_was_saved_in(runs, monkeypatch):
    folder, config = saved_model(runs["questions"]), read_run(runs["questions"])["config"]
    model = {"_target_": "truetune.models.pretrained.Pretrained", "name_or_path": str(folder), "dtype": "bfloat16"}
    both = loaded(runs["questions"], {"config": {**config, "model": model}}, folder)
    assert [partner.lm.model.dtype for partner in both] == [torch.bfloat16] * 2
    assert partners(runs["questions"])[1].lm.model.dtype == torch.float32


def test_a_missing_template_is_said(runs, tmp_path, monkeypatch):
    record = runs["messages"] / "run.json"
    kept = record.read_text()
    changed = json.loads(kept)
    changed["config"]["data"]["chat_template"] = None
    record.write_text(json.dumps(changed))
    try:
        with pytest.raises(UserError, match=r"data\.chat_template=null: the tokenizer of .* has no chat template"):
            said(runs["messages"], "Say 3.")
    finally:
        record.write_text(kept)
