"""Any Hugging Face causal language model: a folder or a hub name."""

from __future__ import annotations

import json
import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Literal

from truetune.data.values import Dtype, Text, YesOrNo
from truetune.errors import Say, UserError, first_line
from truetune.models.adapter import adapter_digest, check_adapter, is_adapter, last_checkpoint, with_adapter
from truetune.models.weight_check import WRAPPERS, check_loaded, hash_files, is_wrapped, refuse_architecture

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from truetune.models.language_model import LanguageModel

# AutoModelForCausalLM knows an architecture of ours once its module is imported. The module is named here and imported
# only when such weights are loaded, so that the core imports no extension, and works without one that was deleted.
OWN_ARCHITECTURES = {"truetune_recurrent": "truetune.extensions.recurrent"}


@dataclass(frozen=True)
class Pretrained:
    """Only safetensors are read: a pickled `.bin` could run code. Remote code runs only if the user asks for it."""

    name_or_path: Text
    dtype: Dtype = "float32"
    trust_remote_code: YesOrNo = False
    revision: Text | None = None
    gradient_checkpointing: YesOrNo = False
    compile: YesOrNo = False  # torch.compile of the forward pass in training
    base: Text | None = None  # an adapter's base, if not the one that its settings name
    init: Literal["whole", "meta"] = "whole"
    called: str = "model"  # in messages

    @property
    def named(self) -> str:
        return f"{self.called}.name_or_path={self.name_or_path}"

    def load(self, say: Say = str) -> LanguageModel:
        """The model in `dtype` and in train mode: transformers keeps the checkpoint's dtype and switches dropout off.

        Every weight of the model must be in the checkpoint. `say` receives notes; by default they are dropped.
        """
        from truetune.models.language_model import LanguageModel, set_special_tokens

        self.check_files()
        folder = self._folder()
        if str(folder) != self.name_or_path:
            say(f"{self.named}: holds no model itself; {folder.name} is taken")
            return replace(self, name_or_path=str(folder)).load(say)
        if is_adapter(folder):
            return self._load_adapter(folder, say)
        with ThreadPoolExecutor(1) as other_core:  # for hashing the files takes as long as loading them
            digest = other_core.submit(self._digest, stop := Event())
            try:
                model, tokenizer = self._model_and_tokenizer(say)
            except BaseException:
                stop.set()
                raise
        if self.gradient_checkpointing:
            try:
                model.gradient_checkpointing_enable({"use_reentrant": False})
            except ValueError as error:
                raise UserError(f"{self.called}.gradient_checkpointing=true: {first_line(error)}") from None
        set_special_tokens(tokenizer)
        embeddings: Any = model.get_input_embeddings()
        check_vocabulary(tokenizer, embeddings.num_embeddings, self.named)
        return LanguageModel(model.train(), tokenizer, digest.result(), f"{self.name_or_path}")

    def _model_and_tokenizer(self, say: Say) -> tuple[Any, Any]:
        import torch
        from transformers import AutoTokenizer, PretrainedConfig

        options: dict[str, Any] = {"trust_remote_code": self.trust_remote_code, "revision": self.revision}
        try:
            settings, _ = PretrainedConfig.get_config_dict(self.name_or_path, revision=self.revision)
            refuse_architecture(settings, self.named)
            if module := OWN_ARCHITECTURES.get(settings.get("model_type", "")):
                import_module(module)
            tokenizer = AutoTokenizer.from_pretrained(self.name_or_path, **options)
            return self._weights(say, dtype=getattr(torch, self.dtype), **options), tokenizer
        except UserError:
            raise
        except Exception as error:  # tokenizers raises plain Exception, safetensors and transformers a dozen kinds
            place = "" if os.path.isdir(self.name_or_path) else "no such folder here, and as a name on the hub it "
            raise UserError(f"{self.named}: {place}cannot be loaded: {first_line(error)}") from error

    def _load_adapter(self, folder: Path, say: Say) -> LanguageModel:
        """The base with the adapter merged into it, and the adapter's tokenizer if it has one."""
        from transformers import AutoTokenizer

        from truetune.models.language_model import LanguageModel, set_special_tokens

        lm = self._base(folder).load(say)
        say(f"{self.named}: an adapter, merged into {lm.origin}")
        model, tokenizer = with_adapter(lm.model, folder, self.named), lm.tokenizer
        if (folder / "tokenizer_config.json").is_file():
            tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=self.trust_remote_code)
            set_special_tokens(tokenizer)
        digest = adapter_digest(folder, lm.digest)
        return LanguageModel(model.requires_grad_(True).train(), tokenizer, digest, f"{self.name_or_path}")

    def _base(self, folder: Path) -> Pretrained:
        base = self.base or check_adapter(folder, self.named)
        if base is None:
            raise UserError(f"{self.named}: the adapter's settings name no base; type {self.called}.base=FOLDER")
        if self.base is None and not os.path.isdir(base) and (Path(base).is_absolute() or base.startswith(".")):
            raise UserError(f"{self.named}: its base {base} is not here; type {self.called}.base=FOLDER")
        # The user has trusted the code of a base that they named, not of one that only the adapter's settings name.
        is_trusted = self.trust_remote_code and self.base is not None
        return replace(self, name_or_path=base, base=None, trust_remote_code=is_trusted)

    def _weights(self, say: Say, **options: Any) -> Any:
        from transformers import AutoModelForCausalLM

        if self.init == "meta":
            from truetune.models.sharded_loading import empty_model

            return empty_model(self.name_or_path, **options)
        options |= {"use_safetensors": True, "output_loading_info": True, "ignore_mismatched_sizes": True}
        result: Any = AutoModelForCausalLM.from_pretrained(self.name_or_path, **options, **self._storage())
        if is_wrapped(result[1]["unexpected_keys"]):
            say(f"{self.named}: the prefix of a wrapped model is left out of the names of its weights")
            options["key_mapping"] = WRAPPERS
            result = AutoModelForCausalLM.from_pretrained(self.name_or_path, **options, **self._storage())
        model, report = result
        check_loaded(model, report, self.named, say)
        return model

    def _storage(self) -> dict[str, Any]:
        """Further arguments of `from_pretrained`, for subclasses to give."""
        return {}

    def check_files(self) -> None:
        """Raises UserError for what is wrong with the folder, without loading the model or importing torch."""
        folder = self._folder()
        if not os.path.isdir(folder):  # unlike pathlib's, False for a name that is too long
            self._check_name()
        elif is_adapter(folder):
            check_adapter(folder, self.named)
            self._base(folder).check_files()
        elif self.base is not None:
            raise UserError(f"{self.named}: is no adapter; leave {self.called}.base out")
        else:
            self._check_folder(folder)

    def _check_folder(self, folder: Path) -> None:
        names = {path.name for path in folder.iterdir()}
        self._refuse_other_kinds(folder, names)
        if "config.json" not in names:
            raise UserError(
                f"{self.named}: no config.json in this folder; expected config.json, *.safetensors, tokenizer.json"
            )
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{self.named}: config.json is not JSON ({error})") from error
        if not isinstance(config, dict):
            raise UserError(f"{self.named}: config.json holds no object; expected the model's settings")
        if "auto_map" in config and not self.trust_remote_code:
            raise UserError(
                f"{self.named}: this model needs code of its own (auto_map in config.json), which is refused; "
                f"read that code, then add {self.called}.trust_remote_code=true"
            )
        refuse_architecture(config, self.named)
        if not any(name.endswith(".safetensors") for name in names):
            pickles = sorted(n for n in names if n.endswith((".bin", ".pt", ".pth", ".pkl")))
            problem = f"only pickled weights ({pickles[0]}), which can run code" if pickles else "no weights"
            raise UserError(f"{self.named}: {problem}; expected model.safetensors (convert with save_pretrained)")
        if not names & {"tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json"}:
            raise UserError(
                f"{self.named}: no tokenizer in this folder; expected tokenizer.json (tokenizer.save_pretrained)"
            )

    def weights_bytes(self) -> float:
        """Size of the folder's safetensors; infinite for a name on the hub, whose files are not here yet."""
        folder = self._folder()
        if folder.is_dir() and is_adapter(folder):
            return self._base(folder).weights_bytes()
        return sum(file.stat().st_size for file in folder.glob("*.safetensors")) if folder.is_dir() else math.inf

    def fast_precision(self, accelerator: str) -> Literal["bf16-mixed", "32-true"]:
        """What trainer.precision=auto means: weights keep their type, products of a large model may be of 16 bits."""
        import torch

        from truetune.models.language_model import LARGE, fast_dtype

        is_large = self.dtype == "float32" and self.weights_bytes() >= 4 * LARGE
        return "bf16-mixed" if is_large and fast_dtype(accelerator) == torch.bfloat16 else "32-true"

    def _folder(self) -> Path:
        """The folder that holds the model: a Trainer's last checkpoint if `name_or_path` holds no model itself."""
        return last_checkpoint(Path(self.name_or_path)) or Path(self.name_or_path)

    def _refuse_other_kinds(self, folder: Path, names: set[str]) -> None:
        if any(name.endswith(".safetensors") and not name.startswith("adapter") for name in names):
            return
        if file := next((name for name in sorted(names) if name.endswith(".gguf")), None):
            raise UserError(f"{self.named}: holds a GGUF file; type {self._as_gguf(folder / file)}")

    def _as_gguf(self, file: Path) -> str:
        return f"{self.called}=gguf {self.called}.file={file}"

    def _check_name(self) -> None:
        if os.path.isfile(self.name_or_path):
            path = Path(self.name_or_path)
            folder = f"{self.called}.name_or_path={path.parent}"
            way_out = self._as_gguf(path) if path.suffix == ".gguf" else folder
            raise UserError(f"{self.named}: is a file, not a folder; type {way_out}")
        looks_like_path = self.name_or_path.startswith((".", "/", "~")) or self.name_or_path.count("/") != 1
        if looks_like_path and "/" in self.name_or_path:
            raise UserError(f"{self.named}: no such folder ({Path(self.name_or_path).absolute()})")
        if os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}:
            raise UserError(
                f"{self.named}: not a folder, and HF_HUB_OFFLINE forbids the hub; type the path of a local folder"
            )

    def _digest(self, stop: Event) -> str:
        """SHA-256 of the files' bytes, so that a renamed folder is the same base and an edited one is not."""
        digest = sha256(f"{self.dtype}{self._storage() or ''}".encode())
        if os.path.isdir(self.name_or_path):
            hash_files(Path(self.name_or_path), digest.update, stop)
        else:
            from transformers.utils.hub import cached_file, extract_commit_hash

            file = cached_file(self.name_or_path, "config.json", revision=self.revision)
            digest.update(f"{self.name_or_path}@{extract_commit_hash(file, None) or self.revision}".encode())
        return digest.hexdigest()


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, embeddings: int, name: str) -> None:
    """Refuses token ids beyond the embedding: they would fail in training as `index out of range in self`."""
    largest = max([*tokenizer.get_vocab().values(), *tokenizer("a").input_ids], default=-1)
    if largest >= embeddings:
        raise UserError(
            f"{name}: the tokenizer has {largest + 1} tokens, the embedding {embeddings} rows; "
            "use the tokenizer that belongs to these weights"
        )
    if tokenizer.eos_token_id is None:
        raise UserError(f"{name}: the tokenizer has no end-of-text token, so answers could never stop; set eos_token")
