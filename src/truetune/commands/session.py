"""What a run and an audit have in common: silenced libraries, the folder that they hold, the record, the report."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from rich.console import Console
from transformers.utils import logging as transformers_logging

from truetune.config import secrets
from truetune.config.run import Run
from truetune.data.dataset import Dataset
from truetune.errors import Diverged, Say, rank, speaker
from truetune.models.language_model import LanguageModel
from truetune.models.pretrained import Pretrained
from truetune.models.sharding import is_sharded
from truetune.models.tiny import Embedded
from truetune.probes.asking import Asking
from truetune.probes.baseline import affordable, measure_base
from truetune.probes.measure import DRIFT, noise_floor, only_at_ends, without
from truetune.probes.probe import Probe
from truetune.probes.respondent import Respondent
from truetune.records.files import IN_USE, owned, remove_torn
from truetune.records.state import State
from truetune.records.versions import command_line
from truetune.report import run_page
from truetune.report.summary import print_table

LOG = logging.getLogger("truetune")
ADVICE = (
    ".*does not have many workers.*",
    ".*`_lru_cache`.*",
    ".*TensorBoard.*",
    ".*exists and is not empty.*",
    "fan_in_fan_out is set to",  # peft then sets it itself
)

SMALL_WIDTH = 2000  # hidden size times layers of an embedded model
SMALL_BYTES = 20_000_000  # of the weights of a pretrained one


def begin(run: Run, console: Console) -> Say:
    """Sets the number of threads, silences libraries, prints the notes on the data; returns what prints a line."""
    torch.set_num_threads(run.settings.threads or threads_for(run.prepared.builder))
    quiet()
    say = speaker(console)
    for note in run.prepared.data.notes:
        say(note)
    return say


def threads_for(builder: Embedded | Pretrained) -> int:
    """What torch or OMP_NUM_THREADS says, but no more than there are cores, and two for a small model.

    A second thread makes the embedded base 1.14 times as fast, and the number of threads decides the last digits.
    """
    threads = torch.get_num_threads()
    if "OMP_NUM_THREADS" in os.environ:
        return threads
    if isinstance(builder, Embedded):
        is_small = builder.hidden_size * builder.layers < SMALL_WIDTH
    else:
        is_small = builder.weights_bytes() < SMALL_BYTES
    return min(threads, os.cpu_count() or 1, 2 if is_small else threads)


@contextmanager
def recording(run: Run, say: Say) -> Generator[State]:
    """Holds the run folder during the work, writes run.json whatever happens, and makes the report at the end."""
    state = State(run.run_dir, secrets.hide(run.config), secrets.hide(command_line()), notes=[*run.prepared.data.notes])
    state.fields_not_used = run.prepared.data.fields_not_used
    if rank() > 0:
        # Rank 0 reports how the run ended; at any exit code but 0 Lightning would kill it before it could.
        with suppress(Diverged, KeyboardInterrupt, SystemExit), state.recording():
            yield state
        return
    with owned(run.run_dir, IN_USE):
        remove_torn(run.run_dir, deep=True)
        with state.recording():
            yield state
        page = run_page.render(run.run_dir)
        state.write_record()  # again, since the page is now among its files
        screen = Console(record=True)
        print_table(state.record, screen)
        LOG.info("measured:\n%s", screen.export_text())
        say(f"report: {page.absolute()}")


def with_battery(run: Run, state: State, base: Respondent, data: Dataset, say: Say) -> Dataset:
    """The data with as many of the battery's questions as there is time for; omissions are reported and recorded."""
    battery, probes = run.battery, run.probes()
    if battery is None or not any(map(only_at_ends, probes)):
        return data
    elsewhere, notes = battery.battery(data.train)
    data, omissions = affordable(base, replace(data, elsewhere=elsewhere), probes, run.asking, run.cache, say)
    for note in notes + omissions:
        state.note(note, say)
    return data


def measure_first(
    run: Run, state: State, base: Respondent, data: Dataset, probes: Sequence[Probe], asking: Asking, say: Say
) -> None:
    """Measures the untouched base and, if the configuration asks for the noise floor, how far it is from itself."""
    state.base = measure_base(base, data, probes, asking, run.cache, say)
    if isinstance(base, LanguageModel) and is_sharded(base.model):  # no base stays beside the tuned model
        state.base = without(state.base, DRIFT)
    if run.measure.noise_floor:
        state.note(noise_floor(base, state.base, data, probes, asking), say)


def judge_answers(run: Run, state: State, say: Say) -> None:
    """Has a judge, if any, compare the recorded answers: last, so that one that fails costs only its verdicts."""
    if run.judging is not None and rank() == 0:
        with state.timed("judge"):
            metrics, state.verdicts = run.judging.judge(state.base, state.final, partial(state.note, say=say))
            state.final = replace(state.final, metrics=state.final.metrics | metrics)


def quiet() -> None:
    """Silences libraries, for the whole process: start-up lines and advice would bury what the user needs to read."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for pattern in ADVICE:
        warnings.filterwarnings("ignore", message=pattern)
    warnings.filterwarnings("ignore", category=UserWarning, module="lightning")
    warnings.filterwarnings("ignore", category=FutureWarning)
    if warnings.showwarning is not _logged:
        _shown.append(warnings.showwarning)
        warnings.showwarning = _logged
    threading.excepthook = _thread_failed
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()


_shown = [warnings.showwarning]  # the last of these prints a warning on the screen


def _logged(message: Warning | str, category: type[Warning], *where: Any, **options: Any) -> None:
    _shown[-1](message, category, *where, **options)
    LOG.info("%s: %s", category.__name__, message)


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    """Prints a thread's traceback, but not that of TensorBoard's writer, whose next call raises its error as well."""
    if type(failure.thread).__name__ != "_AsyncWriterThread":
        threading.__excepthook__(failure)
