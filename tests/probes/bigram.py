"""A real Llama whose weights are set by hand: the next word depends on the last one only, as a table says."""

import math

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from truetune.models.language_model import LanguageModel
from truetune.models.tokenizers import word_level

END = "<eos>"


def bigram(words, table):
    """`table` maps a word to the next word, or to {word: probability}; a word that is missing ends the text."""
    tokenizer = word_level(sorted(words))
    ids = tokenizer.get_vocab()
    size = len(ids) + len(ids) % 2
    config = LlamaConfig(
        vocab_size=len(ids), hidden_size=size, intermediate_size=2, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, max_position_embeddings=64, tie_word_embeddings=False, rms_norm_eps=0.0,
        bos_token_id=ids["<bos>"], eos_token_id=ids[END], pad_token_id=ids["<pad>"],
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()  # attention and the feed-forward part add nothing
        model.model.norm.weight.fill_(1.0)
        model.model.embed_tokens.weight.copy_(torch.eye(len(ids), size))
        head = model.lm_head.weight.fill_(-40 / math.sqrt(size))
        for word, index in ids.items():
            following = table.get(word, END)
            shares = following if isinstance(following, dict) else {following: 1.0}
            for other, share in shares.items():
                head[ids[other], index] = math.log(share) / math.sqrt(size)
    return LanguageModel(model, tokenizer, f"{sorted(table.items(), key=str)}", "by hand")
