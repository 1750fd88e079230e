"""Conversations: what is learnt of them, as any tokenizer's template writes them, and every fault in one line."""

import pytest
import torch
from row_files import dump, fault, write
from training.small import WORDS, language_model

from truetune.data.chat_template import PLAIN, pieces
from truetune.data.dataset import Example, Turn
from truetune.data.encode import encode
from truetune.data.rows.read import read_examples, read_questions
from truetune.data.tokens import Encoder
from truetune.errors import UserError
from truetune.models.language_model import with_template
from truetune.models.tokenizers import byte_bpe, word_level

USER, ANSWER = {"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "A thing."}
SYSTEM = {"role": "system", "content": "Be brief."}
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<eos>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% elif m.role == 'assistant' %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}"
    "{% endif %}{{ '<turn>' + m.role + '\n' + m.content | trim + '<end>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<turn>assistant\n' }}{% endif %}"
)

# As Qwen3's and Phi-3's: a turn is written otherwise once more turns follow.
QWEN = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{{ m.content + '<eos>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
PHI = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
DATED = (
    "{% if strftime_now is defined %}{% set day = strftime_now('%d %b %Y') %}{% endif %}"
    "{{ 'Today: ' + day + ', ' + strftime_now('%Y-%m-%d') + '\n' }}"
) + CHATML


def rows(*conversations):
    return dump(*({"messages": list(turns)} for turns in conversations))


def learnt(tokenizer, row):
    """The runs of tokens that are learnt, as text."""
    runs, before = [], False
    for label, token in zip(row.labels, row.input_ids, strict=True):
        if label != -100 and before:
            runs[-1].append(token)
        elif label != -100:
            runs.append([token])
        before = label != -100
    return [tokenizer.decode(run) for run in runs]


@pytest.fixture(scope="module")
def tokenizer():
    return byte_bpe(["What is it? A thing. Be brief. And now? More. User: Assistant: [INST] <turn>"], 400)


def two_turns(*before):
    return [*before, Turn("user", "What is it?"), Turn("assistant", "A thing."), Turn("user", "And now?")]


@pytest.mark.parametrize(
    ("template", "system", "expected"),
    [
        (PLAIN, True, [" A thing.<eos>", " More.<eos>"]),
        (CHATML, True, ["A thing.<eos>", "More.<eos>"]),
        (LLAMA, False, [" A thing.<eos>", " More.<eos>"]),
        (GEMMA, False, ["A thing.<end>\n", "More.<end>\n<eos>"]),
        (QWEN, True, ["A thing.<eos>", "More.<eos>"]),
        (PHI, True, ["A thing.<|end|>\n", "More.<|end|>\n<eos>"]),
        (DATED, True, ["A thing.<eos>", "More.<eos>"]),
    ],
)
def test_the_assistants_turns_and_their_ends_are_learnt_and_nothing_else(tokenizer, template, system, expected):
    tokenizer.chat_template = template
    before = two_turns(*([Turn("system", "Be brief.")] if system else []))
    row = Encoder(tokenizer).row(Example("c", "?", "More.", "here", turns=tuple(before)))
    assert learnt(tokenizer, row) == expected
    text = tokenizer.decode(row.input_ids)
    assert text.count("<bos>") == template.count("bos_token")
    assert row.input_ids[-1] == tokenizer.eos_token_id
    assert row.target_tokens == sum(label != -100 for label in row.labels)


@pytest.mark.parametrize("template", [PLAIN, CHATML, LLAMA, GEMMA, QWEN, PHI, DATED])
def test_an_answer_is_asked_for_at_the_very_tokens_it_was_learnt_after(tokenizer, template):
    tokenizer.chat_template = template
    encoder, before = Encoder(tokenizer), tuple(two_turns())
    asked = encoder.prompt(before)
    row = encoder.row(Example("c", "?", "More.", "here", turns=before))
    assert row.input_ids[: len(asked)] == asked
    assert row.labels[len(asked) - 1] == -100
    assert row.labels[len(asked)] != -100


def test_the_text_is_that_of_the_template(tokenizer):
    tokenizer.chat_template = CHATML
    turns = [*two_turns(), Turn("assistant", "More.")]
    messages = [turn._asdict() for turn in turns]
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    assert "".join(text for text, _ in pieces(tokenizer, turns, ask=False)) == whole.removesuffix("\n")
    asked = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
    assert "".join(text for text, _ in pieces(tokenizer, turns[:-1], ask=True)) == asked


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (
            "{% for m in messages %}{{ m.content[:4] }}{% endfor %}",
            "or changes turn 1 (user: 'What is it?')",
        ),
        (LLAMA.replace("elif m.role == 'assistant'", "elif m.role == 'nobody'"), "turn 2 (assistant: 'A thing.')"),
        ("{{ messages[0].nope.nope }}", "the chat template refuses this conversation"),
        ("{% if %}", "the chat template refuses this conversation"),
        (
            "{% for m in messages %}{{ m.content }}{{ '.' if loop.last else ',' }}{% endfor %}",
            "renders turn 2 otherwise once more turns follow",
        ),
        (CHATML.replace("assistant\n", "assistant\n<think>\n"), "renders turn 4 otherwise once it is asked for"),
    ],
)
def test_a_template_that_does_not_write_what_was_said_is_refused_by_name(tokenizer, template, words):
    tokenizer.chat_template = template
    example = Example("c", "?", "More.", "talk.jsonl:7", turns=tuple(two_turns()))
    with pytest.raises(UserError) as caught:
        Encoder(tokenizer).row(example)
    assert str(caught.value).startswith("talk.jsonl:7: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("said", ["s", "assistant", "<|end|>", "  A thing.\n"])
def test_what_is_learnt_of_such_templates_is_the_turn_itself_whatever_it_says(tokenizer, said):
    """The words may stand in the template too."""
    turns = (Turn("user", "And now?"), Turn("assistant", said), Turn("user", "And now?"))
    for template, end in ((QWEN, "<eos>"), (PHI, "<|end|>\n")):
        tokenizer.chat_template = template
        first, _ = learnt(tokenizer, Encoder(tokenizer).row(Example("c", "?", "More.", "here", turns=turns)))
        assert first.strip() == f"{said}{end}".strip()


def test_an_end_that_changes_is_no_matter_where_nothing_is_learnt(tokenizer):
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{{ '.' if loop.last else ',' }}{% endfor %}"
    asked = Encoder(tokenizer).prompt(tuple(two_turns()))
    assert tokenizer.decode(asked) == "What is it?,A thing.,And now?."


def test_a_template_that_writes_the_day_writes_the_same_one_always(monkeypatch):
    from datetime import datetime

    from transformers.utils import chat_template_utils

    lm, said = language_model(), []
    later = type("Later", (datetime,), {"now": classmethod(lambda cls, tz=None: cls(2031, 1, 2))})
    monkeypatch.setattr(chat_template_utils, "datetime", later)
    lm = with_template(lm, DATED, said.append)
    ((text, _),) = pieces(lm.tokenizer, [Turn("user", "w1")], ask=True)
    assert text.startswith("Today: 26 Jul 2024, 2024-07-26\n<|im_start|>user\nw1")
    assert said == ["chat template: that of data.chat_template, for which today is 26 July 2024"]


def test_the_spaces_that_a_template_begins_with_stay(tokenizer):
    tokenizer.chat_template = "\n  {% for m in messages %}{{ m.content }}{% endfor %}"
    messages = [{"role": "user", "content": "And now?"}]
    ((text, _),) = pieces(tokenizer, [Turn("user", "And now?")], ask=True)
    assert text == tokenizer.apply_chat_template(messages, tokenize=False) == "\nAnd now?"


def test_a_template_that_drops_the_system_turn_or_refuses_it_is_named(tokenizer):
    turns = (Turn("system", "Be brief."), Turn("user", "What is it?"))
    for template, words in ((LLAMA, "turn 1 (system"), (GEMMA, "no system role")):
        tokenizer.chat_template = template
        with pytest.raises(UserError, match=words.replace("(", "\\(")):
            Encoder(tokenizer).row(Example("c", "?", "More.", "here", turns=turns))


def test_a_text_that_begins_twice_is_refused(tokenizer):
    tokenizer.chat_template = "{{ bos_token }}" + LLAMA
    with pytest.raises(UserError, match="begins a text twice"):
        Encoder(tokenizer).row(Example("c", "?", "More.", "here", turns=tuple(two_turns())))


def test_which_template_is_used():
    lm = language_model()
    with pytest.raises(UserError, match=r"data\.chat_template=null: the tokenizer of test has no chat template"):
        with_template(lm, None, print)
    notes = []
    plain = with_template(lm, "auto", notes.append)
    assert plain.tokenizer.chat_template == "{{- bos_token -}}" + PLAIN
    assert "the plain one" in notes[0]
    assert plain.digest != lm.digest
    own = with_template(lm, None, notes.append)
    assert (own.digest, notes[1]) == (plain.digest, "chat template: the tokenizer's own")
    other = with_template(lm, CHATML, notes.append)
    assert other.tokenizer.chat_template == CHATML
    assert other.digest not in (lm.digest, plain.digest)


def test_rows_of_messages_are_recognised_and_read(tmp_path):
    file = write(tmp_path, rows([USER, ANSWER], [SYSTEM, USER, ANSWER, USER, {**ANSWER, "content": "More."}]))
    one, two = read_examples(file).examples
    assert (one.turns, one.completion, one.prompt) == ((Turn("user", "What is it?"),), "A thing.", "What is it?")
    assert [turn.role for turn in two.turns] == ["system", "user", "assistant", "user"]
    assert two.prompt.startswith("system: Be brief.\nuser: What is it?")
    assert two.answers == ("More.",)
    first, second = read_questions(file)
    assert (first.turns, first.answers) == (one.turns, ("A thing.",))
    assert second.question == two.prompt


@pytest.mark.parametrize(
    ("turns", "words"),
    [
        (
            [{**USER, "role": "narrator"}, ANSWER],
            '"role" is "narrator", expected a "role" of system, user, assistant, tool',
        ),
        ([{"speaker": "human", "value": "x"}, ANSWER], 'message 1: found the fields "speaker", "value"'),
        ([SYSTEM, SYSTEM, USER, ANSWER], "two system turns"),
        ([USER, SYSTEM, ANSWER], "the system turn must be the first"),
        ([USER], "no assistant turn"),
        ([USER, ANSWER, USER], "the last turn is of the user; it must be the assistant's"),
        ([USER, {**ANSWER, "content": " "}], 'message 2: "content" holds no text'),
        ([USER, {**ANSWER, "content": None}], 'message 2: "content" is null'),
        (
            [USER, {**ANSWER, "content": [{"type": "text"}]}],
            'message 2: "content" has a part of type "text"; only',
        ),
        ([{**USER, "content": [{"type": "image_url", "image_url": "x"}]}, ANSWER], 'a part of type "image_url"; only'),
        ([USER, {**ANSWER, "weight": 0.5}], 'message 2: "weight" is 0.5, expected 0 or 1'),
        ([USER, {**ANSWER, "weight": 0}], "no turn of the assistant is to be learnt"),
        ([USER, {**ANSWER, "tool_calls": [{"id": "x"}]}], 'a call of a tool is an object without the "name"'),
        ([ANSWER], "the assistant speaks before any user"),
        (["hello", ANSWER], "message 1: found text"),
        ([], "no assistant turn"),
    ],
)
def test_a_conversation_that_cannot_be_learnt_is_named(tmp_path, turns, words):
    file = write(tmp_path, rows([USER, ANSWER], turns))
    said = fault(read_examples, file)
    assert said.startswith(f'{file}:2: field "messages"')
    assert words in said


def test_messages_that_are_no_list_are_refused(tmp_path):
    said = fault(read_examples, write(tmp_path, dump({"messages": "hello"})))
    assert 'field "messages": found text, expected a list' in said


def test_mixed_forms_are_refused_with_the_line(tmp_path):
    file = write(tmp_path, rows([USER, ANSWER]) + dump({"text": "a text"}))
    assert f'{file}:2: found the fields "text", expected "messages" as in the rows before' in fault(read_examples, file)


def test_a_conversation_that_is_cut_keeps_an_answer_or_is_refused():
    tokenizer = word_level(WORDS)
    tokenizer.chat_template = "{% for m in messages %}{{ ' ' + m.content + ' ' }}{% endfor %}"
    turns = (Turn("user", "w1 w2"), Turn("assistant", "w3"), Turn("user", "w4 w5 w6"))
    example = Example("c", "?", "w7", "talk.jsonl:1", turns=turns)
    encoded = encode(Encoder(tokenizer), [example], 5, "truncate")
    assert encoded.rows[0].target_tokens == 1
    assert encoded.notes == ["1 examples cut to 5 tokens, the first: talk.jsonl:1"]
    with pytest.raises(UserError, match="nothing would be learnt"):
        encode(Encoder(tokenizer), [example], 2, "truncate")


def test_a_conversation_is_scored_as_by_hand():
    """Only the assistant's tokens count, each by the logits of the position before it."""
    from truetune.data.batch import collate
    from truetune.training.objectives import Micro, NextToken

    lm = language_model()
    lm.tokenizer.chat_template = "{% for m in messages %}{{ ' ' + m.content + ' ' }}{% endfor %}"
    turns = (Turn("user", "w1 w2"), Turn("assistant", "w3"), Turn("user", "w4"))
    row = Encoder(lm.tokenizer).row(Example("c", "?", "w5 w6", "here", turns=turns))
    ids = [lm.tokenizer.convert_tokens_to_ids(word) for word in ("w1", "w2", "w3", "w4", "w5", "w6", "<eos>")]
    assert row.input_ids == ids
    batch = collate([row], 0)
    logits = lm.model(input_ids=batch["input_ids"], use_cache=False).logits
    micro = Micro(lm.model, logits, batch["labels"], batch["input_ids"], batch["attention_mask"], batch["weights"])
    log_p = torch.log_softmax(logits[0], -1)
    expected = -sum(float(log_p[place - 1, ids[place]]) for place in (2, 4, 5, 6))
    assert float(NextToken()(micro)) == pytest.approx(expected, rel=1e-5)
