"""Seven families of language models, small and with random weights: loaded, trained, measured, packed, saved."""

from functools import cache

import pytest
import torch
import transformers
from training.small import WORDS, recording, rows, train

from truetune.commands.tuned_model import save_model
from truetune.data.batch import collate_packed
from truetune.data.dataset import Example
from truetune.data.packing import pack
from truetune.data.tokens import Encoder
from truetune.errors import UserError
from truetune.models.frozen import Frozen
from truetune.models.logits import check_packing, forward
from truetune.models.pretrained import Pretrained
from truetune.models.tokenizers import byte_bpe
from truetune.probes.decoding import greedy_answers
from truetune.probes.likelihood import likelihood
from truetune.records.run_folder import MODEL
from truetune.training.objectives import NextToken

SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZES |= {"max_position_embeddings": 128, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 128, "bos_token_id": 1, "eos_token_id": 2}
FAMILIES = {
    "Llama": SIZES,
    "Qwen2": {**SIZES, "num_key_value_heads": 2},
    "GPT2": GPT2,
    "Mistral": {**SIZES, "num_key_value_heads": 1, "sliding_window": 8},
    "Gemma": {**SIZES, "num_key_value_heads": 1, "head_dim": 8},
    "Phi": SIZES,
    "GPTNeoX": SIZES,
}
NOT_PACKED = {
    "OPT": {**SIZES, "ffn_dim": 32, "word_embed_proj_dim": 16},
    "Bloom": {"hidden_size": 16, "n_layer": 2, "n_head": 2},
}


@cache
def folder(name, tmp):
    tokenizer = byte_bpe(WORDS, 300)  # as real ones are; Qwen2's class would not keep another pre-tokenizer
    known = {**FAMILIES, **NOT_PACKED}[name]
    config = getattr(transformers, f"{name}Config")(vocab_size=len(tokenizer), **known)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8 if parameter.ndim > 1 else 1)  # or the logits are so small that nothing could be seen
    model.save_pretrained(tmp / name)
    tokenizer.save_pretrained(tmp / name)
    return tmp / name


@pytest.fixture(scope="module")
def tmp(tmp_path_factory):
    return tmp_path_factory.mktemp("families")


def loaded(name, tmp):
    return Pretrained(str(folder(name, tmp))).load()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_trained_measured_and_saved(name, tmp, tmp_path):
    lm = loaded(name, tmp)
    base = Frozen(lm.copy().model)
    seen = []
    module = train(lm, rows(lm), batch=3, optimizer=recording(seen), accumulate_grad_batches=3)
    assert module.window_tokens == sum(row.target_tokens for row in rows(lm))
    assert len(seen) == 1
    examples = [Example("e", "w0 w1", " w2 w3", "here")]
    measured = likelihood(lm, examples, batch_size=4, base=base)
    assert measured.target_tokens == Encoder(lm.tokenizer).row(examples[0]).target_tokens > 2
    assert measured.kl_to_base_nats > 0
    prompts = ["w0", "w1 w2 w3 w4", "w5 w6"]
    together = greedy_answers(lm, prompts, max_new_tokens=4, batch_size=3)
    alone = [greedy_answers(lm, [prompt], max_new_tokens=4, batch_size=1)[0] for prompt in prompts]
    assert [answer.text for answer in together] == [answer.text for answer in alone]
    save_model(lm, tmp_path)
    again = Pretrained(str(tmp_path / MODEL)).load()
    ids = torch.tensor([Encoder(lm.tokenizer).prompt("w1 w2 w3")])
    with torch.no_grad():
        torch.testing.assert_close(forward(again.model.eval(), ids), forward(lm.model.eval(), ids), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_packed_examples_of_a_family_do_not_see_each_other(name, tmp):
    lm = loaded(name, tmp)
    lm.model.eval()
    check_packing(lm.model)
    batch = collate_packed(packs := pack(rows(lm)), lm.tokenizer.pad_token_id)
    with torch.no_grad():
        packed = forward(lm.model, batch["input_ids"], batch["position_ids"])
        for number, together in enumerate(packs):
            start = 0
            for row in together:
                alone = forward(lm.model, torch.tensor([row.input_ids]))[0]
                found = packed[number, start : start + len(row.input_ids)]
                torch.testing.assert_close(found, alone, rtol=1e-5, atol=1e-5)
                start += len(row.input_ids)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_loss_of_a_family_in_chunks_is_the_loss(name, tmp):
    found = []
    for chunk in (None, 4):
        lm, seen = loaded(name, tmp), []
        lm.model.config.use_cache = False
        for module in lm.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        module = train(lm, rows(lm), objectives=[NextToken(chunk=chunk)], optimizer=recording(seen))
        found.append((module.window_loss, seen[0][1]))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NOT_PACKED)
def test_a_family_whose_packed_examples_see_each_other_is_refused(name, tmp):
    with pytest.raises(UserError, match=r"loader.packing=true: .*ForCausalLM lets packed examples see each other"):
        check_packing(loaded(name, tmp).model)
