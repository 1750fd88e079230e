"""The exit-code contract for bad input: refused before anything is made, in one line that says where and what."""

import json
import os
import signal
import subprocess
import sys

import pytest
from command_line import TINY_RUN, TINY_WORLD, checked, complaint, composed, prepared, refusal, refused, typed
from faults.tiny import ran
from filelock import FileLock
from rich.console import Console
from tokenizers.processors import TemplateProcessing

from truetune.commands.train import train
from truetune.config import run as build
from truetune.config.instantiation import make
from truetune.data.encode import encode
from truetune.data.rows.read import read_examples
from truetune.data.tokens import Encoder
from truetune.errors import UserError
from truetune.models.pretrained import Pretrained
from truetune.models.tiny import PretrainingSettings, Tiny
from truetune.models.tokenizers import word_level

GOOD = '{"prompt": "p", "completion": " c"}\n'


pytestmark = pytest.mark.usefixtures("folder")


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def rows(count):
    return "".join(json.dumps({"prompt": f"number {n} is", "completion": f" {n}"}) + "\n" for n in range(count))


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("optimizer.lr=${nope}", "optimizer.lr: Interpolation key 'nope' not found"),
        ("model.heads=3", "model.hidden_size=128 must divide by twice model.heads=3"),
        ("model.pretraining.steps=9", "is above model.pretraining.steps=9; lower it"),
        ("paths.log_dir=", "log_dir"),
        ("tags={a:1}", "tags"),
        ("++callbacks.early_stopping={patience:1}", "callbacks.early_stopping: names no class"),
        ("seed={}", "seed={}: should be a valid integer"),
        ("trainer.max_epochs={a:{b:1}}", "trainer.max_epochs: should be a value, found keys"),
    ],
)
def test_a_bad_setting(word, said):
    assert said in refusal(*TINY_WORLD, word)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data.new_share=1"], ["data.companies=6 with data.new_share=1 needs 6 new companies, there are 0"]),
        (["data.populations.school=2000"], ["data.populations.school=2000", "names are left"]),
        (["schedule=cosine", "schedule.lr_end=1"], ["schedule.lr_end=1 is above optimizer.lr=0.0001"]),
        (["method=[relabel_unknown,filter_unknown]"], ["filter_unknown and relabel_unknown contradict each other"]),
        (
            ["data.new_names=disjoint", "data.world.other_first_words=[Q]", "data.populations.new=80"],
            ["40 names apart"],
        ),
        (["measure.max_new_tokens=128"], ["measure.max_new_tokens=128", "model.context_length=128"]),
        (
            ["method=early_stop", "callbacks.early_stopping.patience=-1"],
            ["patience=-1: should be greater than or equal"],
        ),
        (
            ["callbacks=prune", "callbacks.median_pruning.runs=abc"],
            ["median_pruning.runs=abc: should be a valid integer"],
        ),
        (["clip=none", "trainer.gradient_clip_algorithm=value"], ["trainer.gradient_clip_val", "clip=value"]),
        (["method=dola", "model=gru"], ["method=dola contrasts a Transformer's layers", "model.cell=gru"]),
        (["method=self_distill", "knowledge.label=false"], ["knowledge.label=false: method=self_distill"]),
    ],
)
def test_settings_that_contradict_each_other_are_both_named(words, said):
    text = refusal(*TINY_WORLD, "data.populations.new=0" if "data.new_share=1" in words else "seed=0", *words)
    for part in said:
        assert part in text


@pytest.mark.parametrize("key", ["model", "data", "optimizer", "schedule", "objective.next_token", "probe.task"])
@pytest.mark.parametrize("target", ["os.system", "builtins.open", "builtins.eval"])
def test_a_class_from_elsewhere_is_refused_and_not_called(folder, key, target):
    text = refused(*TINY_WORLD, **{f"{key}._target_": target})
    assert f"{key}._target_={target}: not allowed; classes come from truetune, torch, lightning" in text
    assert listing(folder) == []


@pytest.mark.parametrize("group", ["callbacks", "logger"])
def test_a_foreign_callback_or_logger_is_refused_and_not_called(folder, group):
    node = f"{{_target_:os.system,command:'touch {folder}/canary'}}"
    assert "not allowed" in refusal(*TINY_WORLD, f"+{group}.mine={{_target_:truetune.Nothing,inner:[{node}]}}")
    assert listing(folder) == []


@pytest.mark.parametrize("target", ["truetune.commands.sweep.subprocess.run", "truetune.commands.sweep.os.system"])
def test_a_module_that_ours_imports_is_no_way_round(folder, target):
    with pytest.raises(UserError, match="not allowed"):
        make({"_target_": target, "_args_": [["touch", f"{folder}/canary"]]}, "callbacks.mine")
    assert listing(folder) == []


# --- data files -------------------------------------------------------------------------------------------------------

PLACE = "{folder}/bad.jsonl"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (GOOD + "7\n", "bad.jsonl:2: found a number, expected an object"),
        (GOOD + '{"prompt": "x"}\n', 'bad.jsonl:2: found the fields "prompt", expected "prompt" and "completion"'),
        ('{"input": "x", "output": "y"}\n', 'bad.jsonl:1: found the fields "input", "output", expected'),
        (GOOD + '{"question": "x", "answers": ["y"]}\n', "bad.jsonl:2: "),
        (GOOD + '{"prompt": "x", "completion": null}\n', 'bad.jsonl:2: field "completion": found null, expected text'),
        (GOOD + '{"prompt": "x", "completion": ""}\n', 'bad.jsonl:2: field "completion": found no text'),
        (GOOD + '{"prompt": "x", "completion": 4}\n', 'bad.jsonl:2: field "completion": found a number'),
        (GOOD + '{"prompt": " ", "completion": "y"}\n', 'bad.jsonl:2: field "prompt": found no text'),
        (GOOD + '{"prompt": "x", "prompt": "y", "completion": "z"}\n', 'bad.jsonl:2: field "prompt" occurs twice'),
        ('{"question": "x", "answers": []}\n', "bad.jsonl:1: no answer to learn"),
        (b"\x00" * 100, "bad.jsonl:1:1: "),
    ],
)
def test_a_bad_data_file(folder, content, said):
    raw = content if isinstance(content, bytes) else content.encode()
    (folder / "bad.jsonl").write_bytes(raw)
    text = refused("data=jsonl", "data.train_file=bad.jsonl")
    assert said.format(folder=folder) in text
    assert "\n" not in text
    assert listing(folder) == ["bad.jsonl"]


def test_a_replay_of_what_no_one_has_is_refused_before_the_run(folder):
    (folder / "rows.jsonl").write_text(rows(10))
    said = refused("data=jsonl", "data.train_file=rows.jsonl", "method=replay")
    assert said.startswith("curation.replay: this data source holds no pre-training texts")


@pytest.mark.parametrize("key", ["probe_file", "retention_file"])
def test_the_other_data_files_are_read_before_the_run_too(folder, key):
    (folder / "rows.jsonl").write_text(rows(10))
    (folder / "bad.jsonl").write_text(GOOD + "oops\n")
    words = ["data=jsonl", "data.train_file=rows.jsonl"]
    assert "bad.jsonl:2:1: malformed JSON" in refused(*words, **{f"data.{key}": "bad.jsonl"})
    assert f"{folder}/missing.jsonl: there is no such file" in refused(*words, **{f"data.{key}": "missing.jsonl"})


def test_a_data_file_that_is_not_there(folder):
    (folder / "empty").mkdir()
    (folder / "rows.xlsx").write_text("prompt,completion\n")

    def said(data, name):
        return refused(f"data={data}", **{"data.train_file": name})

    assert refused("data=jsonl") == "data.train_file has no value; type data.train_file=..."
    assert said("jsonl", "").startswith("data.train_file=: ")
    assert f"{folder}/no.jsonl: there is no such file" in said("jsonl", "no.jsonl")
    assert f"{folder}/no: there is no such file" in said("jsonl", "no")
    assert f"{folder}/empty: the folder holds no .jsonl, .json, .csv, .tsv, .parquet" in said("jsonl", "empty")
    assert "the name ends in '.xlsx'" in said("jsonl", "rows.xlsx")
    assert f"{folder}/no.txt: there is no such file" in said("text", "no.txt")
    assert f"{folder}/empty: this is a folder" in said("text", "empty")


def test_text_that_is_none(folder):
    (folder / "blank.txt").write_text(" \n\n")
    (folder / "latin.txt").write_bytes("ok\ncafé".encode("latin-1"))
    (folder / "short.txt").write_text("one line")
    assert f"{folder}/blank.txt: the file holds no text" in refusal("data=text", "data.train_file=blank.txt")
    assert "latin.txt:2: byte 0xe9 at byte offset 6 is not UTF-8" in refusal("data=text", "data.train_file=latin.txt")
    assert "short.txt: 1 segment of text is too little" in refusal("data=text", "data.train_file=short.txt")


def test_bad_rows_are_counted_where_the_user_asks_to_skip_them(folder):
    (folder / "rows.jsonl").write_text(rows(10) + "oops\n" + '{"prompt": "x", "completion": ""}\n')
    prepared = checked("data=jsonl", "data.train_file=rows.jsonl", "data.on_bad_row=skip")
    notes = " ".join(prepared.data.notes)
    assert "2 rows skipped, the first: rows.jsonl:11: column 1: malformed JSON" in notes


def test_a_file_of_bad_rows_alone_is_refused_even_when_skipping(folder):
    (folder / "bad.jsonl").write_text("oops\n" * 3)
    text = refusal("data=jsonl", "data.train_file=bad.jsonl", "data.on_bad_row=skip")
    assert "bad.jsonl: no row can be used; the first fault is bad.jsonl:1" in text


@pytest.mark.parametrize("name", ["two words.jsonl", "one,two.jsonl", "it's (a) [file] = {x}.jsonl", "日本.jsonl"])
def test_a_path_may_hold_any_character(folder, name):
    place = folder / "a folder, with a comma"
    place.mkdir()
    (place / name).write_text(rows(10))
    quoted = str(place / name).replace("'", "\\'")
    prepared = checked("data=jsonl", f"data.train_file='{quoted}'")
    assert len(prepared.data.train) + len(prepared.data.validation) + len(prepared.data.task) == 10


def test_a_byte_order_mark_and_windows_line_ends_are_accepted(folder):
    (folder / "rows.jsonl").write_bytes(b"\xef\xbb\xbf" + rows(10).replace("\n", "\r\n").encode())
    assert checked("data=jsonl", "data.train_file=rows.jsonl").data.train


# --- rows that do not fit the context ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoder():
    return Encoder(word_level([*"abcdefghij"]))


def example(folder, prompt, completion):
    (folder / "long.jsonl").write_text(GOOD + json.dumps({"prompt": prompt, "completion": completion}) + "\n")
    return read_examples("long.jsonl").examples[1:]


def test_an_over_long_row_is_refused_by_its_line(folder, encoder):
    long = example(folder, "a b", " c d e f g")
    with pytest.raises(UserError, match=r"^long\.jsonl:2: 9 tokens, the context holds 8; .*loader\.over_long=truncate"):
        encode(encoder, long, 8, "error")


def test_a_prompt_that_fills_the_context_is_refused_by_its_line_under_error_and_truncate(folder, encoder):
    long = example(folder, "a b c d e f g", " h")
    for policy in ("error", "truncate"):
        with pytest.raises(UserError, match=r"^long\.jsonl:2: the prompt has 8 tokens and the context holds 8"):
            encode(encoder, long, 8, policy)


def test_over_long_rows_are_cut_or_left_out_only_when_asked_and_counted(folder, encoder):
    long = example(folder, "a b", " c d e f g")
    cut = encode(encoder, long, 8, "truncate")
    assert [len(row.input_ids) for row in cut.rows] == [8]
    assert cut.notes == ["1 examples cut to 8 tokens, the first: long.jsonl:2"]
    both = read_examples("long.jsonl").examples
    left = encode(encoder, both, 8, "skip")
    assert [row.id for row in left.rows] == ["long:1"]
    assert left.notes == ["1 examples left out for being over 8 tokens, the first: long.jsonl:2"]
    with pytest.raises(UserError, match="no example is left to train on"):
        encode(encoder, long, 8, "skip")


# --- model folders ----------------------------------------------------------------------------------------------------


def model_folder(folder, *, config=None, files=("model.safetensors", "tokenizer.json")):
    made = folder / "a model"
    made.mkdir()
    if config is not None:
        (made / "config.json").write_text(config)
    for name in files:
        (made / name).write_bytes(b"")
    return made


@pytest.mark.parametrize(
    ("config", "files", "said"),
    [
        (None, ["model.safetensors"], "no config.json in this folder; expected config.json, *.safetensors"),
        ("{oops", ["model.safetensors"], "config.json is not JSON"),
        ("[]", ["model.safetensors"], "config.json"),
        ("{}", ["tokenizer.json"], "no weights; expected model.safetensors"),
        ("{}", ["tokenizer.json", "pytorch_model.bin"], "only pickled weights (pytorch_model.bin), which can run code"),
        ("{}", ["model.safetensors"], "no tokenizer in this folder; expected tokenizer.json"),
        (
            '{"auto_map": {"AutoModel": "x.Y"}}',
            ["model.safetensors"],
            "needs code of its own (auto_map in config.json)",
        ),
    ],
)
def test_a_model_folder_that_is_not_whole(folder, config, files, said):
    made = model_folder(folder, config=config, files=files)
    text = refused(*TINY_WORLD, "model=pretrained", **{"model.name_or_path": str(made)})
    assert text.startswith(f"model.name_or_path={made}: ")
    assert said in text


def test_a_model_that_is_no_folder(folder, monkeypatch):
    (folder / "file").write_text("")
    words = [*TINY_WORLD, "model=pretrained"]
    text = refused(*words, **{"model.name_or_path": str(folder / "file")})
    assert text.startswith(f"model.name_or_path={folder / 'file'}: is a file, not a folder; type ")
    for name in ("./missing", "a/b/c"):
        text = refused(*words, **{"model.name_or_path": name})
        assert text.startswith(f"model.name_or_path={name}: no such folder")
    assert refused(*words) == "model.name_or_path has no value; type model.name_or_path=..."
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    text = refused(*words, **{"model.name_or_path": "someone/some-model"})
    assert "HF_HUB_OFFLINE forbids the hub" in text


def test_remote_code_is_let_through_only_by_its_key(folder):
    made = model_folder(folder, config='{"auto_map": {"AutoModel": "x.Y"}}')
    words = [*TINY_WORLD, "model=pretrained", f"model.name_or_path='{made}'"]
    assert "add model.trust_remote_code=true" in refusal(*words)
    checked(*words, "model.trust_remote_code=true")


def small_model(folder, tokenizer):
    layers = Tiny(0, 16, 1, 32, 300, PretrainingSettings(1, 1e-3, 0, 0.0, 1.0), intermediate_size=16, heads=2)
    layers.build(word_level(["a", "b"]), "", "").model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def test_a_tokenizer_larger_than_the_embedding_is_refused_with_both_sizes(folder):
    small_model(folder, word_level([*"abcdefgh"]))
    with pytest.raises(UserError, match="the tokenizer has 12 tokens, the embedding 6 rows"):
        Pretrained(str(folder)).load()


def test_a_tokenizer_that_could_never_stop_is_refused(folder):
    tokenizer = word_level(["a", "b"])
    tokenizer.eos_token = None
    small_model(folder, tokenizer)
    with pytest.raises(UserError, match="no end-of-text token"):
        Pretrained(str(folder)).load()


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_file_of_a_model_that_is_damaged_is_refused(folder, name):
    small_model(folder, word_level(["a", "b"]))
    (folder / name).write_bytes(b'{"neither": "weights nor words"}')
    with pytest.raises(UserError, match=r"model\.name_or_path=.*: cannot be loaded"):
        Pretrained(str(folder)).load()


# --- the place to write -----------------------------------------------------------------------------------------------


def test_a_file_in_the_way_of_the_logs(folder):
    (folder / "logs").write_text("a note")
    assert "logs is a file, not a folder; choose another paths.log_dir" in refusal(*TINY_WORLD)
    assert (folder / "logs").read_text() == "a note"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(folder):
    (folder / "locked").mkdir(mode=0o500)
    assert "no permission to write there" in refusal(*TINY_WORLD, "paths.log_dir=locked")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="a file system that takes no folders is needed")
def test_a_folder_that_can_not_be_made(folder):
    assert "/proc" in complaint(typed(*TINY_WORLD, "paths.log_dir=/proc/logs", cwd=folder))


def test_a_run_folder_that_holds_a_run(folder):
    (folder / "mine").mkdir()
    (folder / "mine" / "run.json").write_text("{}")
    text = refusal(*TINY_WORLD, "hydra.run.dir=mine")
    assert f"{folder}/mine: this run folder is already in use; choose another hydra.run.dir" in text


def test_a_run_folder_that_a_live_process_works_in(folder):
    (folder / "mine" / ".hydra").mkdir(parents=True)
    (folder / "mine" / ".hydra" / "config.yaml").write_text("first")
    holder = subprocess.Popen(
        [sys.executable, "-c", "import filelock\nwith filelock.FileLock('mine/.lock'): print(flush=True); input()"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        holder.stdout.readline()
        text = complaint(typed(*TINY_WORLD, "hydra.run.dir=mine", cwd=folder))
        assert f"{folder}/mine: this run folder is already in use" in text
        assert (folder / "mine" / ".hydra" / "config.yaml").read_text() == "first"
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    checked(*TINY_WORLD, "hydra.run.dir=mine")  # the lock of a dead process is free


def test_a_lock_file_without_a_holder_is_no_obstacle(folder):
    (folder / "mine" / ".hydra").mkdir(parents=True)
    with FileLock(folder / "mine" / ".lock"):
        pass
    checked(*TINY_WORLD, "hydra.run.dir=mine")


# --- the command itself -----------------------------------------------------------------------------------------------


def test_what_only_the_tokenizer_can_see_is_said_with_its_line(folder):
    (folder / "rows.jsonl").write_text(rows(10) + json.dumps({"prompt": "long " * 40, "completion": " x"}) + "\n")
    words = [word for word in TINY_RUN if not word.startswith("data.")]
    words += ["data=jsonl", "data.train_file=rows.jsonl", "data.validation_rows=0", "data.probe_questions=0"]
    cfg = composed(*words, "model.context_length=32")
    cfg.paths.output_dir = str(folder / "run")
    (folder / "run").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("truetune.commands.session.measure_base", lambda *_: pytest.fail("that can take long"))
        with pytest.raises(UserError, match=r"^rows\.jsonl:11: the prompt has \d+ tokens .*loader\.over_long=skip"):
            train(build.build(cfg, build.prepare(cfg), folder / "run"), Console(stderr=True))
        cfg.loader.over_long, cfg.loader.max_tokens = "truncate", 8
        with pytest.raises(UserError, match=r"^rows\.jsonl:\d+: .* loader\.max_tokens allows 8"):
            train(build.build(cfg, build.prepare(cfg), folder / "run"), Console(stderr=True))


def test_a_layer_that_is_not_there_is_said_before_the_base_is_measured(folder, monkeypatch):
    pytest.importorskip("peft")
    monkeypatch.setattr("truetune.commands.session.measure_base", lambda *_: pytest.fail("that can take long"))
    cfg = composed(*TINY_RUN, "method=lora", "adaptation.lora.target_modules=[nowhere]")
    cfg.paths.output_dir = str(folder / "run")
    (folder / "run").mkdir()
    with pytest.raises(UserError, match=r"^adaptation\.lora: .*nowhere.*; layers: .*q_proj"):
        train(build.build(cfg, build.prepare(cfg), folder / "run"), Console(stderr=True))


@pytest.mark.parametrize(
    ("words", "said", "reached"),
    [
        (["method=early_stop", "callbacks=none"], "run.final=best needs a ModelCheckpoint", "nothing"),
        (["method=early_stop", "callbacks.early_stopping.mode=up"], "`mode` can be min, max", "nothing"),
        (["method=early_stop", "callbacks.early_stopping.monitor=val/x"], "val/score", "an epoch"),
    ],
)
def test_a_callback_that_can_not_do_its_work_is_said(folder, monkeypatch, words, said, reached):
    if reached == "nothing":
        monkeypatch.setattr("truetune.commands.train.load_base", lambda *_: pytest.fail("that can take long"))
    with pytest.raises(UserError) as caught:
        ran(folder / "run", *words)
    assert said in str(caught.value)


def test_a_tokenizer_that_adds_a_token_beyond_the_embedding_is_refused_with_both_sizes(folder):
    tokenizer = word_level(["a", "b"])
    begin = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 99)])
    tokenizer.backend_tokenizer.post_processor = begin
    small_model(folder, tokenizer)
    with pytest.raises(UserError, match="the tokenizer has 100 tokens, the embedding 6 rows"):
        Pretrained(str(folder)).load()


def test_few_rows_are_trained_on_and_said_to_fill_no_step(folder):
    (folder / "few.jsonl").write_text(rows(3))
    few = ["data=jsonl", "data.train_file=few.jsonl", "data.validation_rows=0", "data.probe_questions=0"]
    assert checked(*few).data.notes[-1] == "3 rows do not fill one step of 16: an epoch is one step"
    assert checked(*few, "trainer=ddp_sim").data.notes[-1].startswith("3 rows do not fill one step of 32")
    assert "fill" not in " ".join(checked(*few, "loader.batch_size=3").data.notes)
    said = refusal(*few, "+trainer.limit_train_batches=0.5")
    assert "trainer.limit_train_batches=0.5 of 1 batches is none" in said


def test_where_a_plus_adds_a_key_it_is_offered_and_only_there(folder):
    assert "; +trainer.limit_val_batches=... adds one" in refusal("trainer.limit_val_batches=2")
    assert "; +callbacks.mine=... adds one" in refusal("callbacks.mine=2")
    for word in ("optimizer.nope=1", "nope=1", "data.nope=1"):
        assert "adds one" not in refusal(word)


@pytest.mark.parametrize("strategy", ["fsdp_cpu_offload", "deepspeed_stage_2", "model_parallel"])
def test_other_strategies_that_cut_a_model_up_are_refused_and_name_the_one_that_works(strategy):
    said = refused(f"+trainer.strategy={strategy}")
    assert said.startswith(f"trainer.strategy={strategy}: the one strategy here that cuts a model up is fsdp")
    assert said.endswith("type trainer=fsdp")


@pytest.mark.parametrize("method", ["l2_sp", "ewc", "seat"])
def test_what_needs_whole_weights_is_refused_with_fsdp(method):
    assert "needs whole weights while training, and trainer=fsdp cuts them up" in refused(
        "trainer=fsdp", f"method={method}"
    )
    prepared("trainer=ddp", f"method={method}")
