"""Model folders: loaded as fine-tuning needs them, or refused in one line."""

import json
import shutil

import pytest
import torch
from training.small import WORDS, language_model
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlavaConfig

from truetune.errors import UserError
from truetune.models.pretrained import Pretrained
from truetune.models.tokenizers import word_level


@pytest.fixture
def folder(tmp_path):
    lm = language_model(torch.bfloat16)
    lm.model.save_pretrained(tmp_path / "m")
    lm.tokenizer.save_pretrained(tmp_path / "m")
    return tmp_path / "m"


def test_weights_are_float32_and_in_train_mode(folder):
    lm = Pretrained(str(folder)).load()
    assert {p.dtype for p in lm.model.parameters()} == {torch.float32}
    assert lm.model.training
    assert Pretrained(str(folder), dtype="bfloat16").load().model.dtype == torch.bfloat16


def test_the_digest_is_of_the_content(folder, tmp_path):
    first = Pretrained(str(folder)).load().digest
    shutil.copytree(folder, tmp_path / "renamed")
    assert Pretrained(str(tmp_path / "renamed")).load().digest == first
    lm = Pretrained(str(folder)).load()
    with torch.no_grad():
        next(lm.model.parameters())[0, 0] += 1
    lm.model.save_pretrained(folder)
    assert Pretrained(str(folder)).load().digest != first


def test_a_model_of_another_family_loads(tmp_path):
    config = GPT2Config(vocab_size=16, n_positions=16, n_embd=8, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    word_level(WORDS).save_pretrained(tmp_path)
    assert Pretrained(str(tmp_path)).load().context_length == 16


def test_the_context_of_a_model_of_several_parts_is_that_of_its_text(folder):
    lm = Pretrained(str(folder)).load()
    config = LlavaConfig(text_config=LlamaConfig(max_position_embeddings=48).to_dict())
    assert not hasattr(config, "max_position_embeddings")
    lm.model.config = config
    assert lm.context_length == 48


def damage(folder, how):
    if how == "config":
        (folder / "config.json").unlink()
    elif how == "broken config":
        (folder / "config.json").write_text("{")
    elif how == "weights":
        (folder / "model.safetensors").unlink()
    elif how == "pickle":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    elif how == "tokenizer":
        for path in folder.glob("tokenizer*"):
            path.unlink()
    elif how == "code":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModelForCausalLM": "x.Y"}}))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("config", "no config.json in this folder"),
        ("broken config", "config.json is not JSON"),
        ("weights", "no weights; expected model.safetensors"),
        ("pickle", "only pickled weights (pytorch_model.bin), which can run code"),
        ("tokenizer", "no tokenizer in this folder"),
        ("code", "add model.trust_remote_code=true"),
    ],
)
def test_an_incomplete_folder_is_refused_before_torch_is_needed(folder, how, said):
    damage(folder, how)
    with pytest.raises(UserError) as caught:
        Pretrained(str(folder)).check_files()
    assert said in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_tokenizer_of_another_model_is_refused(folder):
    word_level([f"x{n}" for n in range(40)]).save_pretrained(folder)
    with pytest.raises(UserError, match="the tokenizer has 44 tokens, the embedding 16 rows"):
        Pretrained(str(folder)).load()


def edit(path, **changed):
    settings = {**json.loads(path.read_text()), **changed}
    path.write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))


def test_a_tokenizer_without_an_end_is_refused(folder):
    edit(folder / "tokenizer_config.json", eos_token=None)
    with pytest.raises(UserError, match="no end-of-text token, so answers could never stop"):
        Pretrained(str(folder)).load()


def test_a_missing_pad_token_is_borrowed(folder):
    edit(folder / "tokenizer_config.json", pad_token=None)
    tokenizer = Pretrained(str(folder)).load().tokenizer
    assert tokenizer.pad_token_id == tokenizer.eos_token_id


@pytest.mark.parametrize(
    ("name", "content"),
    [("model.safetensors", b"\x00" * 64), ("tokenizer.json", b"{"), ("config.json", b'{"model_type": "nonsense"}')],
)
def test_a_damaged_file_is_one_line(folder, name, content):
    (folder / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        Pretrained(str(folder)).load()
    assert str(caught.value).startswith(f"model.name_or_path={folder}: cannot be loaded: ")
    assert "\n" not in str(caught.value)


def test_a_config_that_is_no_object_is_refused(folder):
    (folder / "config.json").write_text("[]")
    with pytest.raises(UserError, match=r"config\.json holds no object"):
        Pretrained(str(folder)).check_files()


@pytest.mark.parametrize("how", ["config", "broken config", "weights", "pickle", "tokenizer", "code"])
def test_loading_refuses_what_checking_refuses(folder, how):
    damage(folder, how)
    with pytest.raises(UserError) as checked:
        Pretrained(str(folder)).check_files()
    with pytest.raises(UserError) as loaded:
        Pretrained(str(folder)).load()
    assert str(loaded.value) == str(checked.value)


@pytest.mark.parametrize("name", ["./none", "/none/at/all", "a/b/c", "~/none"])
def test_a_path_that_is_not_there_is_not_looked_up_elsewhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        Pretrained(name).check_files()


@pytest.mark.parametrize("name", ["owner/model", "model"])
def test_offline_no_name_is_looked_up(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="HF_HUB_OFFLINE forbids the hub"):
        Pretrained(name).load()


def test_the_digest_sees_the_tokenizer_and_the_precision(folder):
    first = Pretrained(str(folder)).load().digest
    assert Pretrained(str(folder), dtype="bfloat16").load().digest != first
    word_level(["other", *WORDS[1:]]).save_pretrained(folder)
    assert Pretrained(str(folder)).load().digest != first
