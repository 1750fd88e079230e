"""truetune.log holds what the screen said, with times; a profiler's table is on both and in a file of its own."""

import logging
import re
import warnings

import pytest
from command_line import TINY_RUN, typed

from truetune.commands import session

LINE = re.compile(r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\]\[truetune\]\[INFO\] - ")


@pytest.mark.slow
def test_what_the_screen_said_stands_in_the_log(folder):
    words = ("run.preview=1", "+trainer.profiler=simple", "+trainer.max_steps=2", "hydra.run.dir=run")
    result = typed(*TINY_RUN, *words, cwd=folder)
    assert result.returncode == 0, result.stderr
    text = (folder / "run" / "truetune.log").read_text()
    lines = [LINE.sub("", line).rstrip() for line in text.splitlines()]
    screen = [line.rstrip() for line in (result.stderr + result.stdout).splitlines() if line.strip()]
    assert "fine-tuning on 48 rows, 1 epoch: 2 steps" in screen
    assert len(screen) > 40
    assert [line for line in screen if line not in lines] == []
    assert len([line for line in text.splitlines() if LINE.match(line)]) > 8
    profile = (folder / "run" / "fit-profile.txt").read_text()
    assert "FIT Profiler Report" in profile
    assert "run_training_batch" in profile
    assert profile.expandtabs().strip() in result.stderr


def test_a_warning_of_a_library_is_shown_and_logged(monkeypatch, caplog):
    shown = []
    monkeypatch.setattr(warnings, "showwarning", lambda *arguments, **options: shown.append(str(arguments[0])))
    session.quiet()
    session.quiet()
    with caplog.at_level(logging.INFO, "truetune"):
        warnings.showwarning(UserWarning("mind the gap"), UserWarning, "library.py", 7)
    assert shown == ["mind the gap"]
    assert caplog.messages == ["UserWarning: mind the gap"]
