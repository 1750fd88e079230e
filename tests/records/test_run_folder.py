"""A run folder is read in one place: strictly what was typed, leniently how the run ended."""

import os

import pytest
from omegaconf import OmegaConf

from truetune.errors import UserError
from truetune.records import run_folder
from truetune.report.sweeps import read_sweep


@pytest.mark.parametrize("text", [None, "", "{", "[]", "null", '"finished"', "{}"])
def test_a_run_that_recorded_nothing_readable_was_interrupted(tmp_path, text):
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    assert run_folder.record_if_any(tmp_path) == {}
    assert run_folder.status(tmp_path) == "interrupted"


def test_the_status_is_the_recorded_one(tmp_path):
    (tmp_path / "run.json").write_text('{"status": "diverged", "later": 1}')
    assert run_folder.status(tmp_path) == "diverged"


WORDS = ["optimizer.lr=0.1", "data.train_file='it''s \\'here\\'.jsonl'", 'tags=["a: b"]', "model.x=${seed}", "seed=?"]


def test_the_words_come_back_as_they_were_typed_whatever_they_hold(tmp_path):
    (tmp_path / "0" / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(WORDS), tmp_path / "0" / run_folder.WORDS)
    assert run_folder.noted(tmp_path / "0", run_folder.WORDS) == WORDS
    (job,) = read_sweep(tmp_path)
    assert [f"{key}={value}" for key, value in job.overrides.items()] == WORDS


@pytest.mark.parametrize("text", [None, "- [", "5"])
def test_what_is_no_run_is_refused_in_one_line_and_listed_without_words(tmp_path, text):
    folder = tmp_path / "0"
    (folder / ".hydra").mkdir(parents=True)
    if text is not None:
        (folder / run_folder.WORDS).write_text(text)
    with pytest.raises(UserError, match=r"0: not the folder of a run \(\.hydra/overrides\.yaml: "):
        run_folder.noted(folder, run_folder.WORDS)
    assert [job.overrides for job in read_sweep(tmp_path)] == [{}]


@pytest.mark.parametrize("file", [run_folder.HYDRA, run_folder.SETTINGS])
def test_the_folder_that_a_run_or_a_sweep_was_typed_in_is_gone_back_to(tmp_path, monkeypatch, file):
    monkeypatch.chdir(tmp_path)
    there = tmp_path / "there"
    (tmp_path / file).parent.mkdir(exist_ok=True)
    OmegaConf.save({"hydra": {"runtime": {"cwd": str(there)}, "launcher": {"n_jobs": 3}}}, tmp_path / file)
    run_folder.go_to_origin(tmp_path)
    assert os.getcwd() == str(tmp_path), "it is there no more"
    there.mkdir()
    run_folder.go_to_origin(tmp_path)
    assert os.getcwd() == str(there)
    assert run_folder.hydra_setting(tmp_path, "launcher.n_jobs") == 3
    assert run_folder.hydra_setting(tmp_path, "sweeper.n_trials") is None
