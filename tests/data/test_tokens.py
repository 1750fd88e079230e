"""Rows of tokens: one seam for training and probing, exact masks, nothing cut in silence."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from truetune.data.batch import collate
from truetune.data.dataset import Example, Turn
from truetune.data.encode import encode
from truetune.data.module import EpochOrder, TokenizedData
from truetune.data.tokens import IGNORED, Encoder
from truetune.errors import UserError
from truetune.models.language_model import set_special_tokens
from truetune.models.tokenizers import byte_bpe, word_level
from truetune.training.schedules import steps_per_epoch

WORDS = ["a", "b", "c", "d"]
TOKENIZER = word_level(WORDS)


def framed(single):
    """What the tokenizer itself puts around a text."""
    tokenizer = word_level(WORDS)
    ids = [(name, tokenizer.convert_tokens_to_ids(name)) for name in ("<bos>", "<eos>")]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=single, special_tokens=ids)
    return tokenizer


def both_ends():
    return framed("<bos> $A <eos>")


def end_alone():
    return framed("$A <eos>")


def bare():
    return framed("$A")


def pad_is_eos():
    tokenizer = word_level(WORDS)
    tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def without_pad():
    tokenizer = word_level(WORDS)
    tokenizer.pad_token = None
    set_special_tokens(tokenizer)
    return tokenizer


TOKENIZERS = [
    (lambda: word_level(WORDS), True),
    (lambda: byte_bpe(["a b c d " * 9], 300), True),
    (both_ends, True),
    (end_alone, False),
    (bare, False),
    (pad_is_eos, True),
    (without_pad, True),
]


@pytest.mark.parametrize(("make", "begins"), TOKENIZERS)
def test_one_beginning_one_end_and_the_targets_are_the_completion(make, begins):
    tokenizer = make()
    encoder = Encoder(tokenizer)
    row = encoder.row(Example("x", "a b", " c d", "here"))
    assert row.input_ids.count(tokenizer.bos_token_id) == int(begins)
    assert row.input_ids.count(tokenizer.eos_token_id) == 1
    assert row.input_ids[-1] == tokenizer.eos_token_id
    assert row.input_ids[: row.prompt_length] == encoder.prompt("a b")
    labels = collate([row, encoder.row(Example("y", "a", " b c d a b", "here"))], encoder.pad)["labels"][0].tolist()
    targets = [token for token in labels if token != IGNORED]
    assert tokenizer.decode(targets[:-1]).strip() == "c d"
    assert targets[-1] == tokenizer.eos_token_id  # also where the pad token is the same


@pytest.mark.parametrize("single", ["<bos> <bos> $A", "<bos> <eos> $A <eos>", "<bos> <eos> $A"])
def test_a_beginning_of_several_tokens_is_kept_whole(single):
    names = single.partition("$A")[0].split()
    tokenizer = framed(single)
    assert tokenizer.convert_ids_to_tokens(Encoder(tokenizer).prompt("a b")) == [*names, "a", "b"]


@pytest.mark.parametrize(("make", "begins"), TOKENIZERS)
def test_the_seam_of_training_is_the_seam_of_asking(make, begins):
    """Prompt and completion are cut as one text, and what is asked is what a trained row begins with."""
    tokenizer = make()
    encoder = Encoder(tokenizer)
    for prompt, completion in (("a b", " c"), ("a b ", "c"), ("", "a b")):
        row = encoder.row(Example("x", prompt, completion, "here"))
        whole = tokenizer(prompt + completion, add_special_tokens=False).input_ids
        assert row.input_ids == [*encoder.prefix, *whole, encoder.eos]
        assert row.prompt_length == len(encoder.prompt(prompt))
        assert row.input_ids[: row.prompt_length] == encoder.prompt(prompt)
        assert row.target_tokens == len(row.input_ids) - max(row.prompt_length, 1)
        assert int((collate([row], encoder.pad)["labels"] != IGNORED).sum()) == row.target_tokens


def sentencepiece(prepend):
    """As Llama 2 and Mistral (a space before the text) or Gemma (none) write: `▁Lisbon`, and `\\n` by its byte."""
    texts = ["Lisbon is the capital of Portugal", "Paris is the capital of France", "[INST] Answer in a line: [/INST]"]
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words.train_from_iterator(texts * 4, trainers.BpeTrainer(vocab_size=500, special_tokens=special))
    learnt = json.loads(words.to_str())["model"]
    merges = [tuple(pair) for pair in learnt["merges"]]
    backend = Tokenizer(models.BPE(learnt["vocab"], merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    spaces = normalizers.Replace(" ", "▁")
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if prepend else spaces
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


def bytes_in_words():
    """As GPT-2, Qwen and Llama 3 write words: a space belongs to the word behind it."""
    return byte_bpe(["Lisbon is the capital of Portugal", "Paris is the capital of France"] * 4, 400)


TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %}"
    "{{ '\\n' + m.content + eos_token }}{% endif %}{% endfor %}"
)
FAMILIES = {"Llama 2": lambda: sentencepiece(True), "Gemma": lambda: sentencepiece(False), "GPT-2": bytes_in_words}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("prompt", ["The capital of Portugal is", "The capital of Portugal is ", "Answer in a line:\n"])
def test_the_answer_that_is_learnt_is_cut_as_in_a_whole_text(family, prompt):
    tokenizer = FAMILIES[family]()
    encoder = Encoder(tokenizer)
    completion = "Lisbon" if prompt[-1].isspace() else " Lisbon"
    row = encoder.row(Example("x", prompt, completion, "here"))
    assert row.input_ids[len(encoder.prefix) : -1] == tokenizer(prompt + completion, add_special_tokens=False).input_ids
    assert tokenizer.decode(row.input_ids[row.prompt_length : -1]).strip() == "Lisbon"
    assert encoder.prompt(prompt) == row.input_ids[: row.prompt_length]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_answer_of_a_conversation_is_cut_as_in_its_whole_text(family):
    tokenizer = FAMILIES[family]()
    tokenizer.chat_template = TEMPLATE
    turns = (Turn("user", "In Paris"), Turn("assistant", "Paris"), Turn("user", "The capital of Portugal"))
    row = Encoder(tokenizer).row(Example("x", "", "Lisbon", "here", turns=turns))
    text = "[INST] In Paris [/INST]\nParis</s>[INST] The capital of Portugal [/INST]\nLisbon</s>"
    text = text.replace("</s>", tokenizer.eos_token)
    assert row.input_ids == tokenizer(text, add_special_tokens=False).input_ids
    learnt = tokenizer.decode([label for label in row.labels if label != IGNORED]).split(tokenizer.eos_token)
    assert [words.strip() for words in learnt] == ["Paris", "Lisbon", ""]


def test_an_end_token_that_the_data_has_is_learnt_once():
    tokenizer = FAMILIES["Llama 2"]()
    row = Encoder(tokenizer).row(Example("x", "The capital is", " Lisbon</s>", "here"))
    assert row.input_ids.count(tokenizer.eos_token_id) == 1


def over_long(policy, prompt="a", words=12, context=8, most=None):
    encoder = Encoder(word_level(WORDS))
    short = Example("s", "a", " b", "rows.jsonl:1")
    return encode(encoder, [short, Example("l", prompt, " b" * words, "rows.jsonl:2")], context, policy, most)


def test_over_long_rows_are_refused_cut_or_left_out_and_said():
    with pytest.raises(UserError, match=r"rows\.jsonl:2: 15 tokens, the context holds 8"):
        over_long("error")
    cut = over_long("truncate")
    assert [len(row.input_ids) for row in cut.rows] == [4, 8]
    assert cut.notes == ["1 examples cut to 8 tokens, the first: rows.jsonl:2"]
    left = over_long("skip")
    assert [row.id for row in left.rows] == ["s"]
    assert left.notes == ["1 examples left out for being over 8 tokens, the first: rows.jsonl:2"]


def test_fewer_tokens_may_be_allowed_than_the_context_holds():
    with pytest.raises(UserError, match=r"rows\.jsonl:2: 15 tokens, loader\.max_tokens allows 6; shorten"):
        over_long("error", most=6)
    assert [len(row.input_ids) for row in over_long("truncate", most=6).rows] == [4, 6]
    assert over_long("skip", most=6).notes == ["1 examples left out for being over 6 tokens, the first: rows.jsonl:2"]
    assert [len(row.input_ids) for row in over_long("truncate", most=9).rows] == [4, 8]
    with pytest.raises(UserError, match=r"the prompt has 10 tokens and loader\.max_tokens allows 6"):
        over_long("truncate", prompt="a " * 9, words=1, context=20, most=6)


def test_a_prompt_that_fills_the_context_is_named():
    with pytest.raises(UserError, match=r"rows\.jsonl:2: the prompt has 10 tokens and the context holds 8"):
        over_long("truncate", prompt="a " * 9, words=1)


def test_a_long_text_is_cut_into_blocks_that_predict_each_token_once():
    encoder = Encoder(word_level(WORDS))
    text = Example("t", "", "a b c d " * 9, "text")
    whole, blocks = encoder.row(text), encode(encoder, [text], 8, "error").rows
    assert max(len(block.input_ids) for block in blocks) <= 8
    assert [token for block in blocks for token in block.input_ids[1:]] == whole.input_ids[1:]
    assert len({block.id for block in blocks}) == len(blocks)


@settings(max_examples=60)
@given(st.integers(1, 60), st.integers(2, 20))
def test_blocks_of_any_text_and_context_predict_each_token_once(words, context):
    encoder = Encoder(TOKENIZER)
    text = Example("t", "", " ".join(WORDS[n % 4] for n in range(words)), "text")
    whole, blocks = encoder.row(text), encode(encoder, [text], context, "error").rows
    labels = collate(blocks, encoder.pad)["labels"]
    assert labels[labels != IGNORED].tolist() == whole.input_ids[1:]
    assert all(2 <= len(block.input_ids) <= context for block in blocks)
    assert all(a.input_ids[-1] == b.input_ids[0] for a, b in pairwise(blocks)), "each begins where the last one ended"


def test_a_cut_row_still_has_a_target_and_no_invented_end():
    (short, cut) = over_long("truncate").rows
    assert short.input_ids[-1] == 2
    assert cut.input_ids[-1] != 2, "an end that was cut off is not taught"
    assert cut.target_tokens == 8 - cut.prompt_length > 0


def test_nothing_left_to_train_on_is_said():
    encoder = Encoder(TOKENIZER)
    with pytest.raises(UserError, match=r"rows\.jsonl:2: no example is left to train on"):
        encode(encoder, [Example("l", "a", " b" * 12, "rows.jsonl:2")], 8, "skip")


def test_the_order_is_a_permutation_by_seed_and_epoch():
    def order(seed, epoch):
        sampler = EpochOrder(50, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert sorted(order(0, 0)) == list(range(50))
    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


def test_lightning_sets_the_epoch_and_every_row_comes_once_an_epoch():
    from training.small import Watch, language_model, loader, recording, rows

    from truetune.training.fit import fit, make_trainer
    from truetune.training.module import FineTuning
    from truetune.training.objectives import NextToken
    from truetune.training.schedules import Constant, Steps

    lm, watch = language_model(), Watch()
    data = TokenizedData(rows(lm), [], pad=0, seed=4, loader=loader(3))
    module = FineTuning(lm.model, [NextToken()], recording([]), Constant(), Steps(3, 2))
    fit(make_trainer({"max_epochs": 2, "accelerator": "cpu"}, [watch]), module, data, seed=0)
    epochs = [[name for ids in watch.ids[i : i + 3] for name in ids] for i in (0, 3)]
    for epoch, seen in enumerate(epochs):
        sampler = EpochOrder(9, 4)
        sampler.set_epoch(epoch)
        assert seen == [f"row{index}" for index in sampler]


@pytest.mark.parametrize(
    ("rows", "batch", "accumulate", "limit", "steps"),
    [(9, 3, 1, 1.0, 3), (9, 4, 1, 1.0, 3), (9, 4, 2, 1.0, 2), (9, 3, 1, 2, 2), (100, 1, 1, 0.1, 10), (5, 8, 4, 1.0, 1)],
)
def test_steps_per_epoch(rows, batch, accumulate, limit, steps):
    assert steps_per_epoch(rows, batch, accumulate, 1, limit) == steps
