"""A client of OpenAI-compatible chat completions: concurrent requests, retries, a progress bar, one-line errors."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import KW_ONLY, dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from truetune.data.values import Count, Positive, Text
from truetune.errors import Say, UserError, first_line

if TYPE_CHECKING:
    from httpx2 import AsyncClient

PACKAGES = ("httpx2", "tenacity")
TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
BACK_OFF, LONGEST_WAIT, CONNECTING = 1.0, 60.0, 10.0  # seconds
PLAIN_LINE_SECONDS = 15.0
SHOWN = 160  # characters quoted of a response that is no chat completion
Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Reply:
    """One answer. `log_probs` pairs the text's tokens with their log-probabilities; None if the server gives none.

    `is_cut`: the answer ended because it had no more tokens. `model` is the model that answered, as the server says.
    """

    text: str
    log_probs: list[tuple[str, float]] | None
    is_cut: bool
    model: str


class _Refused(Exception):
    """A request that failed. With `again`, another attempt may succeed, but not before `wait` seconds."""

    def __init__(self, reason: str, *, again: bool = False, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.again, self.wait = again, wait


@dataclass(frozen=True)
class Server:
    """Where requests go, and how. The API key is read from an environment variable; only its name is configured.

    A request is tried `attempts` times. `options` are added to its body; one that is null removes its key from it.
    """

    url: Text
    _: KW_ONLY
    api_key_variable: Text | None = None
    timeout: Positive = 120.0
    attempts: Count = 5
    concurrency: Count = 4
    options: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)
    called: str = "model"  # in messages

    @property
    def named(self) -> str:
        return f"{self.called}.url={self.url}"


@dataclass(frozen=True)
class Client:
    """A client for one model of a server. Each request holds `fixed`, `messages` and the configured `options`."""

    settings: Server
    model: Text
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Raises UserError for settings with which no request could be sent."""
        server, called = self.settings, self.settings.called
        for package in PACKAGES:
            if find_spec(package) is None:
                raise UserError(f"{server.named} needs the package {package}; type: pip install 'truetune[serve]'")
        import httpx2

        try:
            url = httpx2.URL(server.url)
        except httpx2.InvalidURL as error:
            raise UserError(f"{server.named}: {first_line(error)}; such as http://127.0.0.1:8000/v1") from None
        if url.userinfo:
            raise UserError(f"{called}.url: holds a user or a password; name a variable by {called}.api_key_variable")
        if url.scheme not in ("http", "https") or not url.host:
            raise UserError(f"{server.named}: should begin with http:// or https://, such as http://127.0.0.1:8000/v1")
        variable = server.api_key_variable
        if variable is not None and not os.environ.get(variable, "").strip():
            # The name is not repeated: somebody may have typed the key itself.
            raise UserError(f"{called}.api_key_variable: names no environment variable that is set")

    def first_reply(self, messages: Messages, **fields: Any) -> Reply:
        """The reply to one request, tried only once so that an error is reported at once. Raises UserError."""
        return asyncio.run(self._send_all([messages], 1, fields, lambda: None))[0]

    def replies(self, requests: Sequence[Messages], words: str, say: Say, **fields: Any) -> list[Reply]:
        """The replies in the requests' order, with a progress bar of these `words`; raises UserError if one fails."""
        with _bar(words, len(requests), say) as advance:
            return asyncio.run(self._send_all(requests, self.settings.attempts, fields, advance))

    def names(self) -> list[str]:
        """The names of the models that the server lists; empty if it does not say."""

        async def fetch() -> list[str]:
            async with self._connected() as http:
                rows = (await http.get("models")).json()["data"]
                return [str(row["id"]) for row in rows]

        with suppress(Exception):  # the list only helps to explain another error
            return asyncio.run(fetch())
        return []

    async def _send_all(
        self, requests: Sequence[Messages], attempts: int, fields: Mapping[str, Any], advance: Any
    ) -> list[Reply]:
        limit = asyncio.Semaphore(self.settings.concurrency)
        async with self._connected() as http:
            tasks = [asyncio.ensure_future(self._send(http, limit, each, attempts, fields)) for each in requests]
            try:
                for task in asyncio.as_completed(tasks):
                    await task
                    advance()
            except _Refused as error:
                raise UserError(f"{self.settings.named}: {error}") from None
            finally:
                for task in tasks:
                    task.cancel()
            return [task.result() for task in tasks]

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator[AsyncClient]:
        import httpx2

        key = os.environ.get(self.settings.api_key_variable or "", "").strip()
        timeout = httpx2.Timeout(self.settings.timeout, connect=min(CONNECTING, self.settings.timeout), pool=None)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        url = self.settings.url.rstrip("/").removesuffix("/chat/completions")
        async with httpx2.AsyncClient(base_url=url, timeout=timeout, headers=headers) as http:
            yield http

    async def _send(
        self, http: AsyncClient, limit: asyncio.Semaphore, messages: Messages, attempts: int, fields: Mapping[str, Any]
    ) -> Reply:
        import tenacity

        body = {"model": self.model, "messages": messages, "stream": False, **self.fixed, **fields}
        body = {name: value for name, value in {**body, **self.settings.options}.items() if value is not None}
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, _Refused) and error.again),
            stop=tenacity.stop_after_attempt(attempts),
            wait=tenacity.wait_random_exponential(BACK_OFF, LONGEST_WAIT)
            + tenacity.wait_exception(lambda error: getattr(error, "wait", 0.0)),
            reraise=True,
        )
        async with limit:
            return await retrying(self._post, http, body)

    async def _post(self, http: AsyncClient, body: Mapping[str, Any]) -> Reply:
        import httpx2

        try:
            response = await http.post("chat/completions", json=body)
        except httpx2.TimeoutException:
            timeout = f"{self.settings.called}.timeout={self.settings.timeout:g}"
            raise _Refused(f"gives no answer within {timeout} seconds; raise it", again=True) from None
        except httpx2.HTTPError as error:
            reason = first_line(error)
            raise _Refused(f"cannot be reached ({reason}); is the server running there?", again=True) from None
        kind = response.headers.get("content-type", "").partition(";")[0]
        try:
            content: Any = response.json()
        except ValueError:
            start = " ".join(response.text.split())[:SHOWN]
            again = response.status_code in TRANSIENT
            reason = f"answers with HTTP {response.status_code} and no JSON ({kind or 'of no type'}: {start!r})"
            raise _Refused(f"{reason}; such a URL ends in /v1, as a rule", again=again, wait=_wait(response)) from None
        if not response.is_success or (isinstance(content, dict) and content.get("error")):
            again = response.status_code in TRANSIENT
            raise _Refused(f"HTTP {response.status_code}: {_message(content)}", again=again, wait=_wait(response))
        try:
            return _reply(content)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError):
            start = json.dumps(content)[:SHOWN]
            raise _Refused(f"answers with JSON that is no chat completion: {start}") from None


def _reply(content: Any) -> Reply:
    choice = content["choices"][0]
    tokens = (choice.get("logprobs") or {}).get("content")
    log_probs = [(str(each["token"]), float(each["logprob"])) for each in tokens] if tokens else None
    text = choice["message"].get("content") or ""
    if not isinstance(text, str):
        raise TypeError
    return Reply(text, log_probs, choice.get("finish_reason") == "length", str(content.get("model") or ""))


def _message(content: Any) -> str:
    """The server's error message; kinds of servers differ in where they put it."""
    inner = content
    for name in ("error", "message", "detail"):
        if isinstance(inner, dict) and inner.get(name):
            inner = inner[name]
    return " ".join((inner if isinstance(inner, str) else json.dumps(inner)).split())[: 2 * SHOWN]


def _wait(response: Any) -> float:
    try:
        return min(max(float(response.headers.get("retry-after", 0)), 0.0), LONGEST_WAIT)
    except ValueError:  # the header may be a date
        return 0.0


@contextmanager
def _bar(words: str, total: int, say: Say) -> Generator[Any]:
    """A function to call after each answer: it moves a bar on a terminal and prints a line now and then elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = ("{task.description}", BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(), "left")
    bar = Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal)
    task, count, last_line = bar.add_task(words, total=total), 0, time.monotonic()

    def advance() -> None:
        nonlocal count, last_line
        count += 1
        bar.advance(task)
        if not console.is_terminal and time.monotonic() - last_line > PLAIN_LINE_SECONDS:
            say(f"{words}: {count} of {total}")
            last_line = time.monotonic()

    with bar:
        yield advance
