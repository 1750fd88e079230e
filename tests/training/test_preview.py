"""What a row looks like to the model, and which part of it is learnt."""

import io

from rich.console import Console
from training.small import language_model

from truetune.data.dataset import Example, Turn
from truetune.data.tokens import Encoder
from truetune.models.language_model import with_template
from truetune.models.tokenizers import byte_bpe
from truetune.training.preview import preview


def shown(rows, tokenizer, **terminal):
    out = io.StringIO()
    preview(rows, tokenizer, Console(file=out, width=40, **terminal))
    return out.getvalue()


def test_learnt_tokens_stand_in_brackets():
    lm = language_model()
    row = Encoder(lm.tokenizer).row(Example("rows:1", "w1 w2", " w3", "here"))
    assert shown([row], lm.tokenizer) == "rows:1: 5 tokens, 2 learnt\n<bos>|w1|w2|[w3][<eos>]\n"
    assert shown([], lm.tokenizer) == ""


def test_line_ends_are_written_out_and_nothing_is_taken_for_markup_or_wrapped():
    tokenizer = byte_bpe(["[red]x\n"], 300)
    row = Encoder(tokenizer).row(Example("r", "[red]\n", "x" * 60, "here"))
    first, second = shown([row], tokenizer).splitlines()
    assert first == f"r: {len(row.input_ids)} tokens, {row.target_tokens} learnt"
    pieces = [tokenizer.decode([token]).replace("\n", "\\n") for token in row.input_ids]
    read = row.prompt_length
    assert second == "".join([*(f"{piece}|" for piece in pieces[:read]), *(f"[{piece}]" for piece in pieces[read:])])
    assert "\\n|" in second


def test_a_terminal_shows_colours():
    lm = language_model()
    row = Encoder(lm.tokenizer).row(Example("rows:1", "w1", " w3", "here"))
    text = shown([row], lm.tokenizer, force_terminal=True, color_system="standard")
    assert "\x1b[32m[w3]" in text
    assert "\x1b[2m" in text


def test_the_turns_of_a_conversation_can_be_told_apart():
    lm = with_template(language_model(), "{% for m in messages %}{{ ' ' + m.content + ' ' }}{% endfor %}", print)
    turns = (Turn("user", "w1"), Turn("assistant", "w2"), Turn("user", "w3"))
    row = Encoder(lm.tokenizer).row(Example("c", "?", "w4", "here", turns=turns))
    assert shown([row], lm.tokenizer).splitlines()[1] == "w1|[w2]w3|[w4][<eos>]"
