"""Talk to a run's base and to its tuned model: the same words to both, the answers side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.columns import Columns
from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.text import Text
from transformers import TextStreamer

from truetune.commands.session import quiet
from truetune.commands.tuned_model import base_of, data_of, tuned_from
from truetune.data.dataset import Dataset, Prompt, Turn
from truetune.data.rows.forms import fill
from truetune.models.language_model import LanguageModel, fastest, with_template
from truetune.probes.asking import Asking
from truetune.probes.base_knows import in_form
from truetune.probes.decoding import Answer, greedy_answers

NEW = "/new"
MOST_TOKENS = 64
CONFIDENCE = "mean token probability {:.2f}"


@dataclass
class Partner:
    """One of the two models, and the conversation with it so far."""

    name: str
    lm: LanguageModel
    data: Dataset
    turns: list[Turn] = field(default_factory=list)

    def answer(self, words: str, max_new_tokens: int | None, show: Callable[[str], None]) -> Answer:
        """The greedy answer; `show` gets each piece of its text as it comes. Only conversations are remembered."""
        token_limit = max_new_tokens or min(MOST_TOKENS, self.lm.context_length // 2)
        prompt: Prompt = fill(self.data.prompt_template, words)
        if self.data.has_conversations:
            self.turns.append(Turn("user", words))
            prompt = tuple(self.turns)
        tokenizer: Any = self.lm.tokenizer
        streamer = TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
        streamer.on_finalized_text = lambda text, stream_end=False: show(text)
        (answer,) = greedy_answers(self.lm, [prompt], max_new_tokens=token_limit, batch_size=1, streamer=streamer)
        if self.data.has_conversations:
            self.turns.append(Turn("assistant", answer.text))
        return answer


def chat(pair: tuple[Partner, Partner], prompt: str | None, max_new_tokens: int | None, console: Console) -> None:
    """With a prompt, prints both answers; without one, asks for prompts until the input ends."""
    answers = answers_side_by_side if console.is_terminal else answers_in_turn
    if prompt is not None:
        answers(pair, prompt, max_new_tokens, console)
        return
    hint = f", {NEW} to begin again" if pair[0].data.has_conversations else ""
    console.print(f"Type a prompt{hint}, Ctrl-D to end.", highlight=False)
    while True:
        try:
            words = console.input("> ").strip()
        except EOFError:
            return
        if words == NEW:
            for partner in pair:
                partner.turns.clear()
        elif words:
            answers(pair, words, max_new_tokens, console)


def partners(run_dir: Path, record: Mapping[str, Any], model: Path) -> tuple[Partner, Partner]:
    """The base and the tuned model, each with the chat template that the run taught.

    Both paths must be absolute, for reading the data changes the working folder. Raises UserError if the run's data or
    base are gone.
    """
    quiet()
    data = data_of(run_dir, record)
    base = base_of(run_dir, record, data)
    tuned = tuned_from(model, base, record)
    device = fastest(record["config"]["trainer"].get("accelerator", "auto"))
    base, data = in_form(base, data, Asking(None, 1, ()), str)
    if data.has_conversations:
        tuned = with_template(tuned, data.chat_template, str)
    return Partner("base", base.to(device), data), Partner("tuned", tuned.to(device), data)


def answers_in_turn(pair: tuple[Partner, Partner], words: str, max_new_tokens: int | None, console: Console) -> None:
    """Prints one model's answer after the other's, without colours or boxes, for a pipe or a file."""

    def show(text: str) -> None:
        console.print(text, end="", markup=False, highlight=False, soft_wrap=True)

    for partner in pair:
        show(f"{partner.name}: ")
        answer = partner.answer(words, max_new_tokens, show)
        console.print(f"\n  {CONFIDENCE.format(answer.confidence)}", highlight=False)


def answers_side_by_side(
    pair: tuple[Partner, Partner], words: str, max_new_tokens: int | None, console: Console
) -> None:
    """Shows two boxes that fill while the models answer, for a terminal."""
    texts = {partner.name: Text() for partner in pair}
    titles = {partner.name: partner.name for partner in pair}

    def view() -> Columns:
        panels = [Panel(text, title=titles[name], width=console.width // 2 - 1) for name, text in texts.items()]
        return Columns(panels, padding=0)

    with Live(view(), console=console, auto_refresh=False) as live:
        for partner in pair:

            def show(piece: str, text: Text = texts[partner.name]) -> None:
                text.append(piece)
                live.update(view(), refresh=True)

            answer = partner.answer(words, max_new_tokens, show)
            titles[partner.name] += f", {CONFIDENCE.format(answer.confidence)}"
            live.update(view(), refresh=True)
