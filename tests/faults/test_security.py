"""What others hand to us is data, never code; what is secret stays out of all that is written or shown."""

import json
import pickle
import zipfile
from contextlib import suppress

import pytest
import torch
from command_line import CONF, TINY_RUN, TINY_WORLD, composed, refusal, typed

from truetune.commands import launch, resume
from truetune.commands.export import export
from truetune.commands.tuned_model import save_model
from truetune.config import compose, secrets
from truetune.config import run as build
from truetune.errors import UserError
from truetune.models.pretrained import Pretrained
from truetune.models.tiny import PretrainingSettings, Tiny
from truetune.models.tokenizers import word_level
from truetune.records import versions
from truetune.records.files import file_digest, sidecar
from truetune.records.record import KEYS, write_run
from truetune.training.checkpoints import AtomicCheckpointIO

CANARY = "c4n4ry-3f9a1b77e2"


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.fixture(autouse=True)
def no_canary(folder):
    yield
    assert not (folder / "canary").exists()


@pytest.fixture
def lm():
    tiny = Tiny(0, 16, 1, 32, 300, PretrainingSettings(1, 1e-3, 0, 0.0, 1.0), intermediate_size=16, heads=2)
    return tiny.build(word_level(["a", "b"]), "", "")


# --- hostile artefacts ------------------------------------------------------------------------------------------------


def test_a_bomb_goes_off_where_it_is_read_carelessly(folder):
    """The bomb of the tests below is a real one."""
    pickle.loads(pickle.dumps(Bomb(folder / "elsewhere"))).close()
    assert (folder / "elsewhere").exists()


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("content", ["bomb", "pickle", "junk", "cut"])
def test_a_checkpoint_that_is_more_than_weights_is_not_read(folder, content, signed):
    path = folder / "last.ckpt"
    if content == "pickle":
        path.write_bytes(pickle.dumps(Bomb(folder / "canary")))
    elif content == "junk":
        path.write_bytes(b"junk" * 100)
    else:
        torch.save({"state_dict": {"w": torch.zeros(9)} if content == "cut" else Bomb(folder / "canary")}, path)
    if content == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    if signed:
        sidecar(path).write_text(f"{file_digest(path)}  {path.name}\n")
    with pytest.raises(UserError, match=r"last\.ckpt: .*cannot be read as tensors and plain values"):
        AtomicCheckpointIO().load_checkpoint(path, weights_only=False)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "adapter_model.bin", "training_args.bin"])
def test_pickles_beside_the_weights_are_never_opened(folder, lm, name):
    save_model(lm, folder)
    torch.save(Bomb(folder / "canary"), folder / "model" / name)
    assert Pretrained(str(folder / "model")).load().tokenizer.get_vocab() == lm.tokenizer.get_vocab()
    (folder / "model" / "model.safetensors").unlink()
    with pytest.raises(UserError, match="only pickled weights"):
        Pretrained(str(folder / "model")).load()


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_code_in_a_model_folder_is_not_run(folder, lm, name):
    save_model(lm, folder)
    made = folder / "model"
    (made / "evil.py").write_text(f"open({str(folder / 'canary')!r}, 'w')\nclass Model: ...\nclass Words: ...\n")
    config = json.loads((made / name).read_text())
    config |= {"auto_map": {"AutoModelForCausalLM": "evil.Model", "AutoTokenizer": ["evil.Words", "evil.Words"]}}
    config |= {"_target_": "evil.Model", "_instantiator": "evil.Model", "_attn_implementation": "evil/kernel"}
    (made / name).write_text(json.dumps(config))
    with suppress(UserError):
        assert Pretrained(str(made)).load().model.__class__.__name__ == "LlamaForCausalLM"


@pytest.mark.parametrize(
    "word",
    [
        "optimizer._target_=os.system",
        "+callbacks.x={_target_:truetune.commands.sweep.subprocess.Popen,args:[touch,canary]}",
        "+callbacks.x={_target_:torch.load,f:bomb.pt,weights_only:false}",
        "+hydra.callbacks.x={_target_:os.system,command:'touch canary'}",
        "+hydra.job_logging.handlers.x={class:logging.os.system,command:'touch canary'}",
        "hydra.job_logging.handlers.console.class=os.system",
    ],
)
def test_what_an_interrupted_run_recorded_is_checked_as_if_it_were_typed(folder, word):
    """The overrides of a run folder that somebody else made."""
    torch.save(Bomb(folder / "canary"), folder / "bomb.pt")
    words = [*TINY_WORLD, word]

    def checked_and_made():
        launch.checked(words)
        cfg = composed(*words)
        cfg.paths.output_dir = "."
        build.build(cfg, None, folder).callbacks()

    with pytest.raises(UserError, match="not allowed"):
        checked_and_made()


def test_a_linked_checkpoint_folder_is_not_written_through(folder):
    run, other = folder / "run", folder / "precious"
    (run / ".hydra").mkdir(parents=True)
    other.mkdir()
    (other / "last.ckpt").write_text("precious")
    (other / ".old.tmp").write_text("precious")
    (run / "checkpoints").symlink_to(other)
    (run / ".hydra" / "overrides.yaml").write_text("[]\n")
    (run / ".hydra" / "hydra.yaml").write_text("hydra: {runtime: {cwd: /}}\n")
    words = ["resume=run"]
    with pytest.raises(UserError, match="checkpoints: a link, which no run makes"):
        resume.expanded(words, compose.parse(words))
    assert sorted(path.name for path in other.iterdir()) == [".old.tmp", "last.ckpt"]


def test_a_link_in_a_model_folder_is_not_exported(folder, lm):
    (folder / "private").write_text("private")
    write_run(folder, {**dict.fromkeys(KEYS, ""), "schema": 1})
    save_model(lm, folder)
    (folder / "model" / "notes.txt").symlink_to(folder / "private")
    with pytest.raises(UserError, match=r"notes\.txt: a link"):
        export(folder, folder / "out")
    assert not (folder / "out").exists()


def test_a_torch_archive_named_as_safetensors_is_refused(folder, lm):
    save_model(lm, folder)
    target = folder / "model" / "model.safetensors"
    torch.save(Bomb(folder / "canary"), target)
    assert zipfile.is_zipfile(target)
    with pytest.raises(UserError, match="cannot be loaded"):
        Pretrained(str(folder / "model")).load()


@pytest.mark.parametrize("name", ["../../outside", "a/../../outside", "/outside", ""])
def test_a_name_can_not_leave_the_logs(name):
    assert "task_name" in refusal(*TINY_WORLD, f"task_name={name}")


def test_unsafe_releases_are_refused_at_the_start(monkeypatch):
    versions.check()
    for bad in ("1.3.0", "1.3.7", None):
        monkeypatch.setattr(versions, "_version", lambda name, bad=bad: bad if name == "hydra-core" else "99.0")
        with pytest.raises(UserError, match=r"hydra-core .*type pip install 'hydra-core>="):
            versions.check()


def test_the_floors_are_those_of_the_package():
    """What pip refuses to install is refused at the start as well."""
    with open(CONF.parent / "pyproject.toml", "rb") as file:
        tomllib = pytest.importorskip("tomllib")  # comes with Python 3.11
        wanted = tomllib.load(file)["project"]["dependencies"]
    assert any(one.startswith(f"hydra-core>={versions.HYDRA}") for one in wanted)


# --- secrets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word",
    [
        f"+logger.csv.api_key={CANARY}",
        f"++logger.csv.HF_TOKEN={CANARY}",
        f"hydra.job.env_set.WANDB_API_KEY={CANARY}",
        f"+trainer.password={CANARY}",
        f"tags=[hf_{CANARY.replace('-', '')}abcdefgh]",
        f"tags=[{CANARY}]",
    ],
)
def test_a_secret_that_is_typed_is_refused_and_not_repeated(monkeypatch, word):
    monkeypatch.setenv("MY_SERVICE_TOKEN", CANARY)
    said = refusal(*TINY_WORLD, word)
    assert "looks like a secret" in said
    assert "oc.env:" in said
    assert "c4n4ry" not in said


@pytest.mark.parametrize("word", ["measure.max_new_tokens=4", "tags=[key,token]", "model.revision=null", "seed=3"])
def test_innocent_words_are_no_secrets(word):
    secrets.refuse([word])


def test_secrets_are_hidden_wherever_they_stand(monkeypatch):
    monkeypatch.setenv("MY_TOKEN", CANARY)
    monkeypatch.setenv("MY_KEY", "1234567890")
    monkeypatch.setenv("SHORT_KEY", "dev")
    held = {"a": [f"x{CANARY}y", {"b": CANARY}], "n": 1234567890, "tags": ["dev"], "lr": 0.1, "yes": True}
    assert secrets.hide(held) == {
        "a": ["x${oc.env:MY_TOKEN}y", {"b": "${oc.env:MY_TOKEN}"}],
        "n": "${oc.env:MY_KEY}",
        "tags": ["dev"],
        "lr": 0.1,
        "yes": True,
    }


def test_a_value_of_the_environment_is_not_shown_in_a_refusal(folder):
    result = typed("optimizer.lr=${oc.env:PLAIN_NAME}", cwd=folder, PLAIN_NAME=CANARY)
    assert result.returncode == 2
    assert result.stderr.startswith("error: optimizer.lr=${oc.env:PLAIN_NAME}: should be a valid number")


@pytest.mark.slow
def test_no_secret_is_left_behind_by_a_run(folder):
    """In the environment, read by a key, and in a path: nothing that is written or said holds it."""
    words = [*TINY_RUN, "tags=['${oc.env:PLAIN_NAME}']", "hydra.run.dir=run", "paths.log_dir=logs"]
    result = typed(*words, cwd=folder, PLAIN_NAME=CANARY, HF_TOKEN=f"hf_{CANARY}")
    assert result.returncode == 0, result.stderr
    found = [path for path in folder.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]
    assert found == []
    assert CANARY not in result.stdout + result.stderr
    assert json.loads((folder / "run/run.json").read_text())["config"]["tags"] == ["${oc.env:PLAIN_NAME}"]


def test_tensorboard_is_only_ever_suggested_on_this_machine():
    root = CONF.parent
    files = [*root.glob("*.md"), *(root / "src").rglob("*.py"), *(root / "conf").rglob("*.yaml")]
    assert len(files) > 50
    assert not [path for path in files if "bind_all" in path.read_text() or "--host" in path.read_text()]
