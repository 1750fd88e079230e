"""The same facts in every form that rows come in teach the same tokens; what a row holds is used, or named."""

import gzip
import json

import pytest
from row_files import dump, fault, write

from truetune.data.chat_template import PLAIN
from truetune.data.encode import encode
from truetune.data.files import Files
from truetune.data.questions import Questions
from truetune.data.rows.forms import DEFAULT_TEMPLATE
from truetune.data.rows.read import read_examples, read_questions
from truetune.data.tokens import Encoder
from truetune.models.tokenizers import byte_bpe

FACTS = [(f"Where is crate {i}?", f"shelf {7 * i}") for i in range(20)]
TOOL = {"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {}}}}
CALL = {"type": "function", "function": {"name": "find", "arguments": {"crate": 3}}}
QWEN3 = (
    "{% if tools %}{{ '<tools>' + tools | tojson + '</tools>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<' + m.role + '>' }}"
    "{% if m.role == 'assistant' and (loop.last or m.reasoning_content) %}"
    "{{ '<think>\n' + (m.reasoning_content or '') + '\n</think>\n\n' }}{% endif %}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{{ '<call>' + c.function | tojson + '</call>' }}{% endfor %}{{ '<eos>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}"
    "{% if not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer():
    return byte_bpe(["Where is crate 3? shelf 7 Question: Answer: User: Assistant: <think> find"], 400)


def talk(question, answer, **more):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer, **more}]


def shares(question, answer):
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


def learnt(tokenizer, row):
    row = Encoder(tokenizer).row(row)
    return tokenizer.decode([token for token, label in zip(row.input_ids, row.labels, strict=True) if label != -100])


CHOICES = ["under the roof", "in the sea"]
FORMS = {
    "question": lambda q, a: {"question": q, "answers": [a, "there"]},
    "nulls": lambda q, a: {"question": q, "answers": [None, a, "there", None]},
    "squad": lambda q, a: {"question": q, "answers": {"text": [a], "answer_start": [0]}},
    "triviaqa": lambda q, a: {"question": q, "answer": {"value": a, "aliases": ["there"]}},
    "python list in a cell": lambda q, a: {"question": q, "answers": str([a, "there"])},
    "numpy list in a cell": lambda q, a: {"question": q, "answers": f"['{a}' 'there']"},
    "alpaca": lambda q, a: {"instruction": q, "input": "", "output": a, "history": [], "system": ""},
    "dolly": lambda q, a: {"instruction": q, "context": "", "response": a},
    "query": lambda q, a: {"query": q, "response": a},
    "letter": lambda q, a: {"question": q, "choices": [CHOICES[0], a, CHOICES[1]], "answer": "B"},
    "index": lambda q, a: {"question": q, "choices": [CHOICES[0], a, CHOICES[1]], "answer": 1},
    "text of a choice": lambda q, a: {"question": q, "choices": [CHOICES[0], a, CHOICES[1]], "answer": a},
    "arc": lambda q, a: {"question": q, "choices": {"text": [*CHOICES, a], "label": ["1", "2", "3"]}, "answerKey": "3"},
    "letters as columns": lambda q, a: {"question": q, "A": CHOICES[0], "B": a, "answer": "B"},
    "prompt": lambda q, a: {"prompt": f"Question: {q}\nAnswer:", "completion": f" {a}"},
    "chosen": lambda q, a: {"prompt": f"Question: {q}\nAnswer:", "chosen": f" {a}", "rejected": " nowhere"},
    "messages": lambda q, a: {"messages": talk(q, a)},
    "messages in a cell": lambda q, a: {"messages": json.dumps(talk(q, a))},
    "sharegpt": lambda q, a: {"conversations": shares(q, a)},
    "parts": lambda q, a: {"messages": talk([{"type": "text", "text": q}], [{"type": "text", "text": a}])},
    "prompt of messages": lambda q, a: {"prompt": talk(q, a)[:1], "completion": talk(q, a)[1:]},
    "chosen messages": lambda q, a: {"prompt": q, "chosen": talk(q, a), "rejected": talk(q, "nowhere")},
    "nulls of parquet": lambda q, a: {"messages": talk(q, a, tool_calls=None, weight=None)},
}


@pytest.mark.parametrize("form", FORMS)
def test_the_same_facts_teach_the_same_tokens_in_every_form(tmp_path, tokenizer, form):
    tokenizer.chat_template = PLAIN
    rows = [FORMS[form](*fact) for fact in FACTS]
    reading = read_examples(write(tmp_path, dump(*rows)))
    assert [learnt(tokenizer, row) for row in reading.examples] == [f" {answer}<eos>" for _, answer in FACTS]
    assert [row.answers[0] for row in reading.examples] == [answer for _, answer in FACTS]
    for row, (question, _) in zip(reading.examples, FACTS, strict=True):
        assert question in row.prompt
        assert all(choice in row.prompt for choice in CHOICES) or "choices" not in rows[0]
    asked = read_questions(write(tmp_path, dump(*rows), "asked.jsonl"), prompt_template=DEFAULT_TEMPLATE)
    assert [q.question for q in asked] == [row.prompt for row in reading.examples]
    assert [q.answers for q in asked] == [row.answers for row in reading.examples]


def csv(rows, mark=","):
    return "\n".join([mark.join(rows[0]), *(mark.join(map(str, row.values())) for row in rows)])


PLAIN_ROWS = [{"question": question, "answer": answer} for question, answer in FACTS]
FILES = {
    "rows.ndjson": dump(*PLAIN_ROWS),
    "rows.jsonl.gz": gzip.compress(dump(*PLAIN_ROWS).encode()),
    "rows.json": json.dumps({"test": [{"question": "x", "answer": "y"}], "train": PLAIN_ROWS}),
    "semicolon.csv": csv(PLAIN_ROWS, ";"),
    "utf-16.csv": csv(PLAIN_ROWS).encode("utf-16"),
    "utf-16.jsonl": dump(*PLAIN_ROWS).encode("utf-16"),
    "rows.tsv": csv(PLAIN_ROWS, "\t"),
}


@pytest.mark.parametrize("name", [*FILES, "rows.jsonl.zst", "saved", "saved splits", "hub"])
def test_the_same_facts_teach_the_same_tokens_from_every_file(tmp_path, name):
    datasets = pytest.importorskip("datasets")
    table, path = datasets.Dataset.from_list(PLAIN_ROWS), tmp_path / name
    if name in FILES:
        write(tmp_path, FILES[name], name)
    elif name == "rows.jsonl.zst":
        import pyarrow

        with pyarrow.CompressedOutputStream(str(path), "zstd") as file:
            file.write(dump(*PLAIN_ROWS).encode())
    elif name == "saved":
        table.save_to_disk(path)
    elif name == "saved splits":
        datasets.DatasetDict({"train": table, "test": table.select([0])}).save_to_disk(path)
    else:
        (path / "data").mkdir(parents=True)
        table.to_parquet(path / "data" / "train-00000-of-00001.parquet")
        table.select([0]).to_parquet(path / "data" / "test-00000-of-00001.parquet")
    reading = read_examples(path)
    assert [(row.words, row.completion) for row in reading.examples] == [(q, f" {a}") for q, a in FACTS]
    if name in ("rows.json", "saved splits", "hub"):
        assert "split train of " in reading.remarks[0]
        assert len(read_questions(path)) == 1
        assert "is wanted; name one with data.split" in fault(read_examples, path, splits=("dev",))
    if name == "semicolon.csv":
        assert "values stand between ';'" in reading.remarks[0]


def test_a_compressed_file_that_is_cut_short_is_one_line(tmp_path):
    whole = gzip.compress(dump(*PLAIN_ROWS).encode())
    assert "cut short or damaged" in fault(read_examples, write(tmp_path, whole[:-20], "rows.jsonl.gz"))


@pytest.mark.parametrize(
    ("row", "answers"),
    [
        ('{"question": "?", "answer": 2}', ("2",)),
        ('{"question": "?", "answer": 3.50}', ("3.50",)),
        ('{"question": "?", "answer": 1e3}', ("1e3",)),
        ('{"question": "?", "answer": true}', ("true",)),
        ('{"question": "?", "answers": [1, "one", null]}', ("1", "one")),
        ('{"question": "?", "answers": {"text": [], "answer_start": []}}', ()),
        ('{"question": "?", "answer": "[1, 2]"}', ("[1, 2]",)),
    ],
)
def test_numbers_and_truth_values_are_answers_as_they_are_spelt(tmp_path, row, answers):
    (question,) = read_questions(write(tmp_path, row))
    assert question.answers == answers


def test_answerable_is_read_from_text(tmp_path):
    rows = "question,answers,answerable\nWho?,Ann,True\nWhere?,,False\nWhen?,,no\nHow?,so,\n"
    assert [q.answers for q in read_questions(write(tmp_path, rows, "rows.csv"))] == [("Ann",), (), (), ("so",)]


@pytest.mark.parametrize(
    ("answer", "choices", "words"),
    [
        ("E", ["x", "y"], "is none of the choices"),
        (1, ["1", "2"], "may be any of the choices"),
        ("A", ["B", "A"], "may be any of the choices"),
        ("7", ["x", "y"], "is none of the choices"),
    ],
)
def test_an_answer_that_names_no_choice_or_two_is_refused(tmp_path, answer, choices, words):
    row = {"question": "Which?", "choices": choices, "answer": answer}
    assert words in fault(read_examples, write(tmp_path, dump(row)))


def test_choices_are_listed_and_the_others_are_wrong(tmp_path):
    (question,) = read_questions(write(tmp_path, dump({"question": "Which?", "choices": ["x", "y"], "answer": "b"})))
    assert question.words == "Which?\nA. x\nB. y"
    assert (question.answers, question.wrong) == (("y", "B"), ("x",))


def test_a_context_is_learnt_and_asked_above_its_question(tmp_path):
    rows = [{"context": f"It is {a}.", "question": q, "answer": a} for q, a in FACTS]
    train, probe = write(tmp_path, dump(*rows[:12])), write(tmp_path, dump(*rows[12:]), "probe.jsonl")
    options = {"retention_file": None, "probe_questions": 0, "validation_rows": 2, "on_bad_row": "error"}
    data = Files(0, str(train), str(probe), prompt_template=DEFAULT_TEMPLATE, **options).load()
    assert {row.prompt for row in data.train} < {f"It is {a}.\nQuestion: {q}\nAnswer:" for q, a in FACTS}
    assert [q.question for q in data.task] == [f"It is {a}.\nQuestion: {q}\nAnswer:" for q, a in FACTS[12:]]
    assert [q.words for q in data.task] == [f"It is {a}.\n{q}" for q, a in FACTS[12:]]
    assert [q.question for q in data.contexts] == [f"Question: {q}\nAnswer:" for q, _ in FACTS[12:]]
    assert [q.question for q in Questions(str(probe), None, "{question}").load().task] == [q for q, _ in FACTS[12:]]


def test_history_and_system_stand_before_the_instruction(tmp_path, tokenizer):
    tokenizer.chat_template = PLAIN
    row = {"instruction": "And 3?", "output": "shelf 7", "system": "Keep.", "history": [["Where is 9?", "shelf 63"]]}
    (example,) = read_examples(write(tmp_path, dump(row))).examples
    assert [tuple(turn)[:2] for turn in example.turns] == [
        ("system", "Keep."),
        ("user", "Where is 9?"),
        ("assistant", "shelf 63"),
        ("user", "And 3?"),
    ]
    assert learnt(tokenizer, example) == " shelf 63<eos> shelf 7<eos>"
    (question,) = read_questions(write(tmp_path, dump(row)))
    assert question.turns == example.turns
    assert "expected pairs" in fault(read_examples, write(tmp_path, dump({**row, "history": ["x"]})))


@pytest.mark.parametrize("weight", [{"weight": 0}, {"train": False}, {"loss": False}])
def test_a_message_of_no_weight_is_read_and_not_learnt(tmp_path, tokenizer, weight):
    tokenizer.chat_template = PLAIN
    row = {"messages": [*talk("Where is 3?", "In the sea.", **weight), *talk("Really?", "shelf 7")]}
    (example,) = read_examples(write(tmp_path, dump(row))).examples
    assert learnt(tokenizer, example) == " shelf 7<eos>"
    assert "In the sea." in tokenizer.decode(Encoder(tokenizer).row(example).input_ids)
    after = {"messages": [*talk("Where is 3?", "shelf 7"), *talk("Really?", "In the sea.", **weight)]}
    (example,) = read_examples(write(tmp_path, dump(after))).examples
    assert (learnt(tokenizer, example), example.answers) == (" shelf 7<eos>", ("shelf 7",))


@pytest.mark.parametrize("template", [PLAIN, QWEN3])
def test_tools_calls_and_their_results_go_through_the_template(tmp_path, tokenizer, template):
    tokenizer.chat_template = template
    said = [{"role": "tool", "name": "find", "content": "shelf 7"}, {"role": "assistant", "content": "On shelf 7."}]
    calls = talk("Where is 3?", None, tool_calls=[CALL])
    spelt = {**CALL, "function": {**CALL["function"], "arguments": '{"crate": 3}'}}
    forms = [
        {"tools": [TOOL], "messages": [*calls, *said]},
        {"tools": json.dumps([TOOL]), "messages": [*talk("Where is 3?", None, tool_calls=[spelt]), *said]},
        {
            "tools": [TOOL["function"]],
            "conversations": [
                {"from": "human", "value": "Where is 3?"},
                {"from": "function_call", "value": json.dumps(CALL["function"])},
                {"from": "observation", "value": "shelf 7", "name": "find"},
                {"from": "gpt", "value": "On shelf 7."},
            ],
        },
    ]
    texts = []
    for row in forms:
        (example,) = read_examples(write(tmp_path, dump(row))).examples
        texts.append((tokenizer.decode(Encoder(tokenizer).row(example).input_ids), learnt(tokenizer, example)))
    text, taught = texts[0]
    assert texts == [texts[0]] * 3
    assert text.index('"find"') < text.index("Where is 3?") < text.index('"crate": 3') < text.index("shelf 7")
    call = '<call>{"name": "find", "arguments": {"crate": 3}}</call><eos>'
    assert [part.strip() for part in taught.split("<eos>")] == [call.removesuffix("<eos>"), "On shelf 7.", ""]
    (last,) = read_examples(write(tmp_path, dump({"messages": calls}))).examples
    assert learnt(tokenizer, last).strip().endswith(call)
    assert last.answers == ()
    assert "it calls a tool" in fault(read_questions, write(tmp_path, dump({"messages": calls})))


def test_calls_that_the_template_does_not_write_are_refused_and_tools_named(tmp_path, tokenizer):
    tokenizer.chat_template = "{% for m in messages %}{{ m.content + '<eos>' }}{% endfor %}"
    calls = {"messages": talk("Where is 3?", None, tool_calls=[CALL])}
    (example,) = read_examples(write(tmp_path, dump(calls))).examples
    assert "leaves out or changes turn 2 (assistant: 'find')" in fault(Encoder(tokenizer).row, example)
    row = {"tools": [TOOL], "messages": talk("Where is 3?", "shelf 7", reasoning_content="I look.")}
    encoded = encode(Encoder(tokenizer), read_examples(write(tmp_path, dump(row))).examples, 100, "error")
    assert encoded.notes == ["not used, since the chat template does not write it: reasoning_content, tools"]


@pytest.mark.parametrize("name", ["reasoning_content", "thinking", "reasoning"])
def test_thoughts_are_learnt_where_the_template_writes_them(tmp_path, tokenizer, name):
    (example,) = read_examples(write(tmp_path, dump({"messages": talk("2+2?", "4", **{name: "I count."})}))).examples
    tokenizer.chat_template = PLAIN
    assert learnt(tokenizer, example) == " <think>I count.</think> 4<eos>"
    tokenizer.chat_template = QWEN3
    assert learnt(tokenizer, example) == "<think>\nI count.\n</think>\n\n4<eos>"


def test_a_developer_speaks_as_the_system_where_the_template_knows_none(tmp_path, tokenizer):
    row = {"messages": [{"role": "developer", "content": "Be brief."}, *talk("Where?", "There.")]}
    (example,) = read_examples(write(tmp_path, dump(row))).examples
    tokenizer.chat_template = QWEN3
    assert "<system>Be brief." in tokenizer.decode(Encoder(tokenizer).row(example).input_ids)
    tokenizer.chat_template = QWEN3 + "{# developer #}"
    assert "<developer>Be brief." in tokenizer.decode(Encoder(tokenizer).row(example).input_ids)


def test_what_is_not_used_is_named_once_a_file(tmp_path):
    rows = [
        {"messages": talk(q, a, images=["x.png"]), "rejected": "no", "source": "web", "label": None} for q, a in FACTS
    ]
    file = write(tmp_path, dump(*rows))
    reading = read_examples(file)
    assert reading.remarks == [f"{file}: not used: rejected, messages.images"]
    assert reading.fields_not_used == ["rejected", "messages.images"]
    options = {"probe_file": None, "retention_file": None, "probe_questions": 2, "validation_rows": 2}
    data = Files(0, str(file), **options, prompt_template="{question}", on_bad_row="error").load()
    assert data.fields_not_used == ["rejected", "messages.images"]
    assert data.notes[1] == f"{file}: not used: rejected, messages.images"
    nulls = write(tmp_path, dump({"question": "?", "answers": ["a", None]}), "nulls.jsonl")
    assert read_examples(nulls).remarks == [f"{nulls}: 1 null answers left out"]
