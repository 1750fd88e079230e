"""One thread a process: models this small are slower on two, and their sums would differ in the last bits."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; processes that tests start inherit it


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The place where the command is typed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRUETUNE_LOGS", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tmp_path
