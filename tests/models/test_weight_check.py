"""No weight of a model is random: what is missing, misplaced or of another kind is refused by name."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from training.small import WORDS
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    LlamaModel,
    RobertaConfig,
    RobertaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from truetune.errors import UserError
from truetune.models.pretrained import Pretrained
from truetune.models.tokenizers import word_level

SIZES = {"vocab_size": 16, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SMALL_T5 = {"vocab_size": 16, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
PARTS = [f"{part}_{name}" for part in ("encoder", "decoder") for name in ("layers", "attention_heads")]
SMALL_BART = {"vocab_size": 16, "d_model": 8, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8, **dict.fromkeys(PARTS, 1)}


def saved(model, folder):
    model.save_pretrained(folder)
    word_level(WORDS).save_pretrained(folder)
    return folder


def llama(*, tied=False, kind=LlamaForCausalLM):
    torch.manual_seed(0)
    return kind(LlamaConfig(**SIZES, **IDS, max_position_embeddings=16, tie_word_embeddings=tied))


@pytest.fixture
def folder(tmp_path):
    return saved(llama(), tmp_path / "m")


def edit_weights(folder, change):
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def edit_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def refusal(folder, **options):
    with pytest.raises(UserError) as caught:
        Pretrained(str(folder), **options).load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def without(*parts):
    return lambda weights: {name: w for name, w in weights.items() if not any(part in name for part in parts)}


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (("layers.1.mlp",), "3 tensors are missing, which would be random: model.layers.1.mlp.down_proj.weight, "),
        (("lm_head",), "1 tensor is missing, which would be random: lm_head.weight; config.json says 2 layers"),
        (("model.norm",), "1 tensor is missing, which would be random: model.norm.weight"),
        (("layers.1.",), "9 tensors are missing"),
    ],
)
def test_missing_weights_are_named(folder, parts, said):
    edit_weights(folder, without(*parts))
    assert said in refusal(folder)


def test_tied_weights_need_not_be_there_twice(tmp_path):
    folder = saved(llama(tied=True), tmp_path / "m")
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    lm = Pretrained(str(folder)).load()
    assert lm.model.lm_head.weight is lm.model.model.embed_tokens.weight


@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "_forward_module.", "module.", "base_model.model.", "_orig_mod.module.", "model."]
)
def test_the_prefix_of_a_wrapped_model_is_left_out_and_said(folder, prefix):
    whole, notes = Pretrained(str(folder)).load().model.state_dict(), []
    edit_weights(folder, lambda weights: {prefix + name: tensor for name, tensor in weights.items()})
    loaded = Pretrained(str(folder)).load(notes.append).model.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in whole.items())
    assert len(whole) == len(loaded) > 20
    assert [note for note in notes if "prefix of a wrapped model" in note] == notes
    assert len(notes) == (prefix != "model.")  # which transformers knows itself


def test_a_wrapped_block_is_found_as_well(folder):
    whole = Pretrained(str(folder)).load().model.state_dict()
    edit_weights(folder, lambda ws: {n.replace("layers.1.", "layers.1._orig_mod."): w for n, w in ws.items()})
    loaded = Pretrained(str(folder)).load().model.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in whole.items())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_hidden_layers": 3}, "9 tensors are missing, which would be random: model.layers.2."),
        (
            {"num_hidden_layers": 1},
            "layers.1.input_layernorm.weight (weights of 2 layers, config.json says 1)",
        ),
        ({"intermediate_size": 4}, "model.layers.0.mlp.down_proj.weight is (8, 8), expected (8, 4)"),
        ({"vocab_size": 17}, "2 tensors are of another shape than config.json says"),
    ],
)
def test_weights_that_the_config_does_not_describe_are_refused(folder, changes, said):
    edit_config(folder, **changes)
    assert said in refusal(folder)


def test_weights_without_a_place_in_a_block_are_refused_and_others_said(folder):
    edit_weights(folder, lambda ws: {**ws, "v_head.summary.weight": torch.ones(1)})
    notes = []
    Pretrained(str(folder)).load(notes.append)
    assert notes == [f"model.name_or_path={folder}: not used: v_head.summary.weight"]
    edit_weights(folder, lambda ws: {**ws, "model.layers.0.self_attn.q_proj.bias": torch.ones(8)})
    assert "without a place in this model, the first: model.layers.0.self_attn.q_proj.bias" in refusal(folder)
    edit_weights(folder, lambda ws: {**ws, "model.layers.0.self_attn.q_proj.lora_A.weight": torch.ones(2, 8)})
    assert "(merge the adapter into its base first)" in refusal(folder)


def test_buffers_of_older_releases_are_no_weights(tmp_path):
    config = GPT2Config(vocab_size=16, n_positions=16, n_embd=8, n_layer=1, n_head=2, **IDS)
    folder, notes = saved(GPT2LMHeadModel(config), tmp_path / "m"), []
    mask = torch.ones(1, 1, 16, 16).tril()
    more = {"transformer.h.0.attn.bias": mask, "transformer.h.0.attn.masked_bias": torch.tensor(-1e4)}
    edit_weights(folder, lambda weights: {**weights, **more})
    Pretrained(str(folder)).load(notes.append)
    assert notes == []


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (lambda: llama(kind=LlamaForSequenceClassification), "LlamaForSequenceClassification is without a head that"),
        (lambda: llama(kind=LlamaModel), "LlamaModel is without a head that predicts the next token"),
        (lambda: BertForMaskedLM(BertConfig(**SIZES)), "BertForMaskedLM is an encoder"),
        (lambda: RobertaForCausalLM(RobertaConfig(**SIZES)), "RobertaForCausalLM is an encoder"),
        (lambda: T5ForConditionalGeneration(T5Config(**SMALL_T5)), "T5ForConditionalGeneration is an encoder-decoder"),
        (
            lambda: BartForConditionalGeneration(BartConfig(**SMALL_BART)),
            "BartForConditionalGeneration is an ",
        ),
    ],
)
def test_what_is_no_causal_decoder_is_refused_before_torch_is_needed(tmp_path, model, said):
    folder = saved(model(), tmp_path / "m")
    with pytest.raises(UserError, match="expected a causal decoder") as caught:
        Pretrained(str(folder)).check_files()
    assert said in str(caught.value)
    assert refusal(folder) == str(caught.value)


def test_a_roberta_made_a_decoder_is_one(tmp_path):
    folder = saved(RobertaForCausalLM(RobertaConfig(**SIZES, **IDS, is_decoder=True)), tmp_path / "m")
    assert Pretrained(str(folder)).load().model.config.is_decoder


def test_a_gguf_file_says_what_to_type(tmp_path):
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "m.gguf").write_bytes(b"GGUF")
    assert refusal(tmp_path / "g").endswith(f"holds a GGUF file; type model=gguf model.file={tmp_path}/g/m.gguf")
    assert refusal(tmp_path / "g" / "m.gguf").endswith(f"type model=gguf model.file={tmp_path}/g/m.gguf")


def test_weights_of_a_folder_are_one_file_of_it(folder):
    assert refusal(folder / "model.safetensors").endswith(f"type model.name_or_path={folder}")
