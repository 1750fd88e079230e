"""A whole run of a very small model within this process: a second, most of it measuring."""

import io
from functools import cache

from command_line import TINY_RUN, composed
from rich.console import Console

from truetune.commands.train import train
from truetune.config import run as build


@cache
def _composed(*words):
    return composed(*TINY_RUN, *words)


def job(folder, *words, resume=None):
    """A run in `folder`, sharing a cache with its neighbours."""
    cfg = _composed(*words).copy()
    cfg.paths.output_dir = str(folder)
    cfg.paths.cache_dir = str(folder.parent / "cache")
    cfg.resume = resume and str(resume)
    folder.mkdir(exist_ok=True)
    return build.build(cfg, build.prepare(cfg), folder)


def ran(folder, *words, resume=None):
    """The record, and what was said."""
    console = Console(file=io.StringIO(), width=400)
    record = train(job(folder, *words, resume=resume), console)
    return record, console.file.getvalue()
