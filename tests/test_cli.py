"""The commands' words and exit codes, and how little they load before a mistake is said."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
from command_line import CONF, TINY_WORLD, checked, config_of, refusal, typed
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import OmegaConf

from truetune import __version__, cli
from truetune.commands import launch
from truetune.errors import UserError
from truetune.records import versions

pytestmark = pytest.mark.usefixtures("folder")


def test_help_is_our_own_text_and_lists_the_groups(folder):
    result = typed("--help", cwd=folder)
    assert result.returncode == 0
    assert result.stdout.startswith("truetune - fine-tune a language model and see what it gained")
    for line in (
        "optimizer: adafactor, adamw, muon, sgd",
        "clip: none, norm, value",
        "truetune -m clip=none,norm,value",
    ):
        assert line in result.stdout
    assert "Powered by Hydra" not in result.stdout
    assert result.stderr == ""
    assert list(folder.iterdir()) == []


def test_cfg_job_prints_what_would_run(folder):
    result = typed("--cfg", "job", "optimizer.lr=3e-4", "clip=value", cwd=folder)
    assert result.returncode == 0, result.stderr
    printed = OmegaConf.create(result.stdout)
    assert (printed.optimizer.lr, printed.trainer.gradient_clip_algorithm) == (3e-4, "value")
    assert {path.stem for path in CONF.iterdir() if path.name in ("data", "paths", "measure", "run")} <= set(printed)
    assert list(folder.iterdir()) == []


LOADED = """
import sys
from importlib.metadata import version
from truetune.cli import train
sys.argv = ["truetune", *sys.argv[1:]]
try:
    train()
except SystemExit as stop:
    code = stop.code
import json
heavy = ("torch", "lightning", "transformers", "tensorboard")
json.dump([code, [name for name in heavy if name in sys.modules]], open("loaded.json", "w"))
"""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--help"], 0),
        (["--cfg", "job"], 0),
        (["optimizer.lrr=1"], 2),
        (["data=jsonl", "data.train_file=missing.jsonl"], 2),
        (["model=pretrained", "model.name_or_path=./missing"], 2),
    ],
)
def test_nothing_heavy_is_imported_before_a_mistake_is_said(folder, words, code):
    subprocess.run([sys.executable, "-c", LOADED, *words], cwd=folder, check=True, capture_output=True)
    assert json.loads((folder / "loaded.json").read_text()) == [code, []]
    assert [path.name for path in folder.iterdir()] == ["loaded.json"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["optimizer.lrr=1"], ["optimizer.lrr: no such key; did you mean optimizer.lr"]),
        (["optimiser=adamw"], ["optimiser: no such key; did you mean optimizer"]),
        (
            ["optimizer=adam"],
            ["optimizer=adam: no such choice; did you mean adamw?", "may be adafactor, adamw, muon, sgd"],
        ),
        (["model=lora"], ["model=lora: no such choice; type method=lora; model may be endpoint, gguf"]),
        (["clip=nope"], ["clip=nope: no such choice; did you mean none?; clip may be none, norm, value"]),
        (["data/world=compani"], ["data/world=compani: no such choice; did you mean companies?"]),
        (["experiment=reference"], ["experiment=reference: no such choice", "did you mean reference_defaults?"]),
        (["method=[replay,repaly]"], ["method=repaly: no such choice; did you mean replay?; method may be asft, dft"]),
        (["method=null"], ["Got NoneType (from: method=null)"]),
        (["curation.replay.ratio=0.3"], ["curation.replay.ratio: not a key of what is chosen; type method=replay"]),
        (["objective.kl_to_base.weight=1"], ["not a key of what is chosen; type method=asft or method=kl_to_base"]),
        (["callbacks.median_pruning.runs=2"], ["not a key of what is chosen; type callbacks=prune"]),
        (["typo=1"], ["typo: no such key"]),
        (["ckpt_path=last.ckpt"], ["ckpt_path: is a key of lightning-hydra-template; here resume=RUN_DIR goes on"]),
        (["+ckpt_path=last.ckpt"], ["ckpt_path: is a key of lightning-hydra-template", "model.name_or_path=DIR"]),
        (["train=false"], ["train: is a key of lightning-hydra-template; here truetune always trains"]),
        (["+test=true"], ["test: is a key of lightning-hydra-template; here a run is always measured"]),
        (["extras.print_config=true"], ["truetune --cfg job prints the configuration"]),
        (["+extras.print_config=true"], ["truetune --cfg job prints the configuration"]),
        (["paths.root_dir=x"], ["paths.root_dir: is a key of lightning-hydra-template; here paths.log_dir=..."]),
        (["+paths.root_dir=x"], ["paths.root_dir: is a key of lightning-hydra-template; here paths.log_dir=..."]),
        (["+optimizer.lrr=1"], ["optimizer.lrr: no such key; did you mean optimizer.lr"]),
        (["optimizer._target_=torch.optim.Adafactor"], ["optimizer.betas: no such key", "; ~optimizer.betas takes it"]),
        (
            ["data.companies=${oc.env:NO_SUCH,60}"],
            ["data.companies=60: should be", "${oc.decode:${oc.env:NAME}}"],
        ),
        (["optimizer.lr=${oc.env:NO_SUCH,1e-4}"], ["optimizer.lr=0.0001: should be", "${oc.decode:${oc.env:NAME}}"]),
        (["+trainer.enable_checkpointing=false"], ["trainer.enable_checkpointing: decided elsewhere: callbacks=none"]),
        (["+trainer.logger=false"], ["trainer.logger: decided elsewhere: logger=none writes no curves"]),
        (["~nope"], ["nope"]),
        (["seed"], ["seed: cannot be read as key=value"]),
        (["objective=["], ["objective=[: cannot be read as key=value", "quote special characters"]),
        (["clip=none,norm"], ["clip=none,norm: several values make a sweep; add -m"]),
        (["optimizer.lr=range(1,3)"], ["several values make a sweep; add -m"]),
        (["-m", "optimizer.lr=interval(1e-5,1e-3)"], ["optimizer.lr=interval(1e-5,1e-3): only a search draws from"]),
        (["-m", "method=glob(zz*)"], ["method=glob(zz*): no such choice; method may be asft, dft, dola"]),
        (["-m", "seed=0,x"], ["seed=x: should be a valid integer", "(job: seed=x)"]),
        (["-m", "clip=nope,norm"], ["clip=nope: no such choice"]),
        (["-m", "seed=0,1", "optimizer.lr=-1"], ["optimizer.lr=-1: should be greater than 0"]),
        (["objective=[]"], ["objective: nothing is chosen; type objective=..."]),
        (["probe=[]"], ["probe: nothing is chosen"]),
        (["~data"], ["data: nothing is chosen"]),
        (["--config-name=nope"], ["nope"]),
        (["hydra.run.dir="], ["hydra.run.dir="]),
        (["optimizer=null"], ["optimizer=null"]),
        (["optimizer=3"], ["optimizer=3"]),
        (["~task_name"], ["task_name"]),
        (["~model.heads"], ["heads"]),
        (["~data.world.noun"], ["noun"]),
    ],
)
def test_a_mistake_on_the_command_line_is_named(words, said):
    text = refusal(*words)
    for part in said:
        assert part in text
    assert "\n" not in text


def test_a_sweep_over_the_names_of_a_group_is_checked_job_by_job():
    assert checked("-m", "method=glob(l*)", *TINY_WORLD) is None
    assert "(job: optimizer.lr=-1 method=l2_sp)" in refusal("-m", "optimizer.lr=-1", "method=glob(l*)")
    assert "loader.batch_size=0" in refusal("-m", "schedule=glob([c*,l*],exclude=cos*)", "loader.batch_size=0")


def test_a_key_of_ones_own_is_added_by_a_plus_and_recorded():
    words = ("+note=hello", "+my.note=hello", "++mine=3", *TINY_WORLD)
    assert not [note for note in checked(*words).data.notes if "your own" in note]
    config = config_of(*words)
    assert (config["note"], config["my"], config["mine"]) == ("hello", {"note": "hello"}, 3)
    assert checked("-m", "+note=a,b", *TINY_WORLD) is None
    typo = "+optimiser: recorded as a key of your own, which nothing reads; did you mean optimizer, optimized_metric?"
    assert typo in checked("+optimiser.lr=1", *TINY_WORLD).data.notes


@pytest.mark.parametrize("command", ["train", "measure", "report", "export", "chat"])
def test_version_is_ours_and_that_of_what_it_stands_on(monkeypatch, capsys, command):
    monkeypatch.setattr(sys, "argv", [command, "--version"])
    with pytest.raises(SystemExit) as ended:
        getattr(cli, command)()
    assert ended.value.code == 0
    stands_on = ", ".join(f"{name} {version(name)}" for name in ("torch", "lightning", "transformers"))
    assert capsys.readouterr().out == f"truetune {__version__} ({stands_on})\n"


def test_text_of_the_environment_is_decoded_where_that_is_asked(monkeypatch):
    monkeypatch.setenv("RATE", "3e-4")
    keys = [("optimizer.lr", "RATE"), ("data.companies", "NO_SUCH,60")]
    config = config_of(*(f'{key}="${{oc.decode:${{oc.env:{name}}}}}"' for key, name in keys))
    assert (config["optimizer"]["lr"], config["data"]["companies"]) == (3e-4, 60)


def test_a_sweep_typed_without_its_flag_is_said_to_be_one_run():
    said = "this is one run; to sweep over clip, optimizer.lr, schedule, add -m"
    assert said in checked("experiment=clipping", *TINY_WORLD).data.notes
    assert said not in checked("experiment=clipping", "hydra.mode=RUN", *TINY_WORLD).data.notes, "a job of the sweep"


def test_a_closed_pipe_is_no_traceback(folder):
    command = f"{sys.executable} -m truetune --help | true"
    result = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=False)
    assert result.stderr == ""


def test_report_has_help(folder):
    result = typed("--help", cwd=folder, command="truetune-report")
    assert (result.returncode, result.stderr) == (0, "")
    assert "usage: truetune-report" in result.stdout


def test_a_sweep_over_other_keys_reads_its_data_once(monkeypatch):
    from truetune.data.closed_world import ClosedWorld

    read = []
    load = ClosedWorld.load
    monkeypatch.setattr(ClosedWorld, "load", lambda self: read.append(self.new_share) or load(self))
    checked("-m", "clip=none,norm", *TINY_WORLD)
    assert len(read) == 1
    checked("-m", "data.new_share=0.25,0.5", "clip=none,norm", *TINY_WORLD)
    assert read[1:] == [0.25, 0.5]


def test_an_argument_that_the_trainer_does_not_have_is_said_before_the_run(folder):
    assert refusal("+trainer.max_epoch=1").startswith("trainer.max_epoch: no such key; did you mean trainer.max_epochs")


def test_a_rank_that_fails_says_which_it_is(monkeypatch, capsys):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(versions, "check", lambda: (_ for _ in ()).throw(UserError("the disk of this node is full")))
    with pytest.raises(SystemExit) as ended:
        cli.train()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: rank 1: the disk of this node is full\n"


def test_a_rank_that_a_cluster_has_started_leaves_the_run_folder_to_rank_0(monkeypatch, folder):
    launched = []
    monkeypatch.setattr(cli, "launch", lambda command: launched.append(sys.argv[1:]))
    monkeypatch.setattr(sys, "argv", ["truetune", "seed=1"])
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit):
        cli.train()
    (words,) = launched
    assert words[:2] == ["seed=1", "hydra.output_subdir=null"]
    assert words[2].startswith("hydra.run.dir=")
    assert not Path(words[2].partition("=")[2].strip("'")).exists()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("mode", ["RUN", "MULTIRUN"])
def test_a_clusters_job_raises_where_a_run_leaves(monkeypatch, mode):
    """What waits for a cluster's job is told of its errors, not of its exit code; a run typed inside one leaves."""
    monkeypatch.setattr(HydraConfig, "get", lambda: SimpleNamespace(mode=RunMode[mode]))
    asked = Path("run"), 143, "it was asked to stop"
    with pytest.raises(SystemExit) as left:
        launch._leave(*asked)
    assert left.value.code == 143
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    if mode == "MULTIRUN":
        with pytest.raises(CompactHydraException, match="error: run: exit code 143: it was asked to stop"):
            launch._leave(*asked)
        launch._leave(Path("run"), 0, "a rank over 0 has ended")
    else:
        with pytest.raises(SystemExit):
            launch._leave(*asked)
