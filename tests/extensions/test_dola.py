"""The contrast of layers, by hand and through `generate`."""

import math
from dataclasses import replace

import pytest
import torch
from training.small import WORDS
from transformers import LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM

from truetune.extensions.dola import Dola, contrast, jensen_shannon
from truetune.models.language_model import LanguageModel
from truetune.models.tokenizers import word_level
from truetune.probes.decoding import greedy_answers


def log(*shares):
    return torch.tensor(shares).log()


def test_divergence_is_symmetric_and_bounded():
    p, q = torch.randn(5, 7).log_softmax(-1), torch.randn(5, 7).log_softmax(-1)
    assert jensen_shannon(p, q).allclose(jensen_shannon(q, p), atol=1e-6)
    assert jensen_shannon(p, p).abs().max() < 1e-6
    apart = jensen_shannon(torch.tensor([[0.0, -100.0]]), torch.tensor([[-100.0, 0.0]]))
    assert float(apart) == pytest.approx(math.log(2))


def test_the_contrast_by_hand():
    last, near, far = log(0.5, 0.4, 0.08, 0.02)[None], log(0.5, 0.4, 0.05, 0.05)[None], log(0.9, 0.05, 0.04, 0.01)[None]
    found = contrast(last, torch.stack([near, far]), plausible=0.1)[0]
    assert found[:3].exp().tolist() == pytest.approx([0.5 / 0.9, 0.4 / 0.05, 0.08 / 0.04])
    assert found[3] == -torch.inf, "0.02 is below a tenth of 0.5"
    assert int(found.argmax()) == 1, "the token that the last layer has over the early one"


def test_layers_that_agree_leave_the_plausible_alone():
    last = torch.randn(3, 6)
    found = contrast(last, last.log_softmax(-1)[None], plausible=1.0)
    assert found.argmax(-1).equal(last.argmax(-1))


def made(layers):
    torch.manual_seed(0)
    tokenizer = word_level(WORDS)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=layers,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=32, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    lm = LanguageModel(LlamaForCausalLM(config), tokenizer, "digest", "test")
    with torch.no_grad():
        for parameter in lm.model.parameters():
            parameter.mul_(8)
    return lm


def answers(lm, layers="low", plausible=0.1):
    asked = {"max_new_tokens": 5, "batch_size": 2, "decoding": Dola(layers, plausible)}
    return [a.text for a in greedy_answers(lm, ["w1", "w2 w3 w4", "w5 w6"], **asked)]


def test_an_adapter_is_decoded_like_the_model_in_it():
    lm = made(4)
    whole = answers(lm)
    peft = pytest.importorskip("peft")
    lora = peft.get_peft_model(lm.model, peft.LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"))
    assert answers(replace(lm, model=lora)) == whole, "an update starts at zero"


def test_a_family_that_calls_its_decoder_past_its_body_is_decoded():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "word_embed_proj_dim": 16, "ffn_dim": 16, "num_attention_heads": 2}
    tokenizer = word_level(WORDS)
    config = OPTConfig(vocab_size=len(tokenizer), num_hidden_layers=2, max_position_embeddings=32, **sizes)
    assert len(answers(LanguageModel(OPTForCausalLM(config), tokenizer, "digest", "test"))) == 3


@pytest.mark.parametrize("layers", ["low", "high"])
def test_a_single_layer_is_held_against_what_it_is_given_and_not_against_itself(layers):
    lm = made(1)
    with Dola(layers, 1e-9).processor(lm.model) as process, torch.no_grad():
        out = lm.model(input_ids=torch.tensor([[3, 4]]), output_hidden_states=True)
        seen = process(torch.tensor([[3, 4]]), out.logits[:, -1])
    assert seen[seen > -torch.inf].std() > 1e-3, "held against itself, every plausible token would score 0"


def test_it_decodes_with_generate_and_leaves_no_hook_behind():
    lm = made(4)
    prompts = ["w1", "w2 w3 w4", "w5 w6"]
    plain = greedy_answers(lm, prompts, max_new_tokens=5, batch_size=2)
    found = greedy_answers(lm, prompts, max_new_tokens=5, batch_size=2, decoding=Dola("low", 0.1))
    alone = [greedy_answers(lm, [p], max_new_tokens=5, batch_size=1, decoding=Dola("low", 0.1))[0] for p in prompts]
    assert [a.text for a in found] == [a.text for a in alone]
    assert [a.text for a in found] != [a.text for a in plain]
    greedy = greedy_answers(lm, prompts, max_new_tokens=5, batch_size=2, decoding=Dola("high", 1.0))
    assert [a.text for a in greedy] == [a.text for a in plain], "only the most likely token is plausible"
    assert greedy_answers(lm, prompts, max_new_tokens=5, batch_size=2) == plain
    assert not lm.model._forward_hooks
