"""A server of chat completions that says what a test wants it to: standard library, loopback, any free port."""

import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Raw:
    """An answer that is no completion; `wait` seconds pass before it."""

    body: str = ""
    status: int = 200
    kind: str = "application/json"
    wait: float = 0.0
    headers: dict = field(default_factory=dict)
    length: int | None = None  # what the header claims


@dataclass
class Said:
    text: str | None
    log_probs: list = field(default_factory=list)
    finish: str = "stop"
    model: str = "stand-in"


@dataclass
class StandIn:
    url: str
    requests: list = field(default_factory=list)  # bodies
    headers: list = field(default_factory=list)


@contextmanager
def stand_in(answer, names=("stand-in",)):
    """`answer(body)` returns a text, a Said or a Raw; `names` None: the server lists no models."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/v1/models" and names is not None:
                self.reply(Raw(json.dumps({"data": [{"id": name} for name in names]})))
            else:
                self.reply(Raw("{}", 404))

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.requests.append(body)
            server.headers.append(dict(self.headers))
            if self.path != "/v1/chat/completions":
                self.reply(Raw("<html>no such page</html>", 404, "text/html"))
                return
            said = answer(body)
            self.reply(said if isinstance(said, Raw) else Raw(json.dumps(completion(said))))

        def reply(self, raw):
            time.sleep(raw.wait)
            content = raw.body.encode()
            try:
                self.send_response(raw.status)
                self.send_header("Content-Type", raw.kind)
                self.send_header("Content-Length", str(len(content) if raw.length is None else raw.length))
                for name, value in raw.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
            except ConnectionError:
                pass  # who asked has left

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = StandIn(f"http://127.0.0.1:{http.server_port}/v1")
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()


def completion(said):
    said = Said(said) if isinstance(said, str) else said
    content = [{"token": token, "logprob": value} for token, value in said.log_probs]
    choice = {"index": 0, "message": {"role": "assistant", "content": said.text}, "finish_reason": said.finish}
    return {"model": said.model, "choices": [{**choice, "logprobs": {"content": content} if content else None}]}


def question(body):
    return body["messages"][-1]["content"]
