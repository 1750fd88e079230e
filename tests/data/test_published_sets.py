"""Published sets in the layout they come in: what is asked, what is right, and what a damaged row says."""

import json
from pathlib import Path

import pytest

from truetune.data.questions import Questions
from truetune.errors import UserError
from truetune.scoring.judge import judged

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def load(tmp_path):
    def read(name, text):
        (tmp_path / name).write_text(text if isinstance(text, str) else json.dumps(text))
        return Questions(str(tmp_path / name), None, "Q: {question}").load()

    return read


def recognised(found):
    return found.notes[0].rpartition("recognised as ")[2]


def test_truthful_qa_csv(load):
    found = load(
        "truthful.csv",
        "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source\n"
        'Adversarial,Law,"Is it, then?",Yes,"Yes; It is; Yes, it is",No; Never,http://x\n',
    )
    (asked,) = found.hallucination
    assert asked.question == "Q: Is it, then?"
    assert asked.answers == ("Yes", "It is", "Yes, it is")
    assert asked.wrong == ("No", "Never")
    assert asked.population == "Law"
    assert recognised(found) == "TruthfulQA's CSV"


def test_truthful_qa_multiple_choice(load):
    row = {"question": "Is it?", "mc1_targets": {"No": 0, "Yes": 1}, "mc2_targets": {"Yes": 1, "It is": 1, "Never": 0}}
    found = load("mc.json", [row])
    assert found.hallucination[0].answers == ("Yes", "It is")
    assert found.hallucination[0].wrong == ("No", "Never")
    assert recognised(found) == "TruthfulQA's multiple-choice JSON"


def test_pop_qa(load):
    aliases = '"[""Rome"", ""Roma""]"'
    found = load("popqa.tsv", f"id\tprop\tquestion\tpossible_answers\n7\tcapital\tWhich city?\t{aliases}\n")
    (asked,) = found.hallucination
    assert (asked.id, asked.answers, asked.population) == ("7", ("Rome", "Roma"), "capital")
    assert recognised(found) == "PopQA's TSV"


def test_halu_eval(load):
    row = {"knowledge": "Ann wrote it.", "question": "Who?", "right_answer": "Ann", "hallucinated_answer": "Bob"}
    found = load("qa.jsonl", json.dumps(row) + "\n")
    (asked,) = found.hallucination
    assert (asked.answers, asked.wrong, asked.context) == (("Ann",), ("Bob",), "Ann wrote it.")
    assert recognised(found) == "HaluEval's QA rows"


def test_squad(load):
    asked = [
        {"id": "a", "question": "Who?", "answers": [{"text": "Ann"}, {"text": "Ann"}], "is_impossible": False},
        {"id": "b", "question": "Why?", "answers": [], "is_impossible": True},
    ]
    found = load("squad.json", {"version": "v2", "data": [{"paragraphs": [{"context": "Ann sang.", "qas": asked}]}]})
    assert [(q.id, q.question, q.answers) for q in found.hallucination] == [
        ("a", "Ann sang.\n\nQ: Who?", ("Ann",)),
        ("b", "Ann sang.\n\nQ: Why?", ()),
    ]
    assert "2 questions, 1 of them without a true answer, recognised as SQuAD's JSON" in found.notes[0]


def test_the_aliases_of_pop_qa_may_be_a_list(load):
    found = load("popqa.jsonl", json.dumps({"question": "Which city?", "possible_answers": ["Rome"]}) + "\n")
    assert found.hallucination[0].answers == ("Rome",)


def test_halu_eval_as_it_is_published_is_one_object_a_line_in_a_json_file(load):
    row = {"knowledge": "Ann wrote it.", "question": "Who?", "right_answer": "Ann", "hallucinated_answer": "Bob"}
    assert len(load("qa_data.json", 2 * (json.dumps(row) + "\n")).hallucination) == 2


def test_gsm8k(load):
    found = load("gsm.jsonl", json.dumps({"question": "How many?", "answer": "1,000 + 2\n#### 1,002"}) + "\n")
    assert found.hallucination[0].answers == ("1,000 + 2\n#### 1,002",)
    assert recognised(found) == "GSM8K's rows"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        *(
            ("It is 12, so 1,002", "right"),
            ("1002.", "right"),
            ("1,002 or 12", "wrong"),
            ("many", "wrong"),
            ("", "wrong"),
        ),
        *(("$1002.00", "right"), ("100.2", "wrong"), ("-1002", "wrong"), ("12-1002", "right"), (".1002", "wrong")),
        *(("#### 1,002\n\nQuestion: 5 cars", "right"), ("1002, so\n#### 5", "wrong"), ("No idea", "abstained")),
    ],
)
def test_the_last_number_is_judged(load, answer, outcome):
    found = load("gsm.jsonl", json.dumps({"question": "How many?", "answer": "#### 1002"}) + "\n")
    assert judged(answer, found.hallucination[0].answers, phrases=("no idea",)) == outcome


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("f.csv", "Question,Best Answer,Correct Answers\n", "the file holds no rows"),
        ("f.csv", "Question,Best Answer,Correct Answers\nWhy?,,\n", "f.csv:2: no answer in this row"),
        ("f.csv", "Question,Best Answer,Correct Answers\n,Yes,\n", "f.csv:2: no question in this row"),
        ("f.csv", 'Question,Best Answer,Correct Answers\nWhy?,"a" b,c\n', "f.csv:2: malformed CSV"),
        ("f.tsv", "question\tpossible_answers\nWhy?\tRome\n", "f.tsv:2: possible_answers: expected a JSON list"),
        (
            "f.jsonl",
            '{"question": "Q", "answer": "#### x"}\n',
            'f.jsonl:1: field "answer": found no number behind ####',
        ),
        ("f.jsonl", '{"question": "Q", "answer": "A", "hallucination": "yes"}\n', "f.jsonl:1: an answer and whether"),
        ("f.json", {"data": [{"paragraphs": [{"qas": [{}]}]}]}, "not an article of SQuAD ('answers')"),
        ("f.json", [{"question": "Q", "mc1_targets": [], "mc2_targets": {}}], "expected objects of answers and 0 or 1"),
    ],
)
def test_a_row_that_cannot_be_used_is_refused(load, name, text, said):
    with pytest.raises(UserError) as caught:
        load(name, text)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["gsm8k_test.jsonl", "nq_open_dev.jsonl", "self_aware.json"])
@pytest.mark.skipif(not SHARED.is_dir(), reason="the real files are not here")
def test_real_files(name):
    found = Questions(str(SHARED / name), None, "{question}").load()
    assert len(found.hallucination) > 1000
    assert len({question.id for question in found.hallucination}) == len(found.hallucination)
