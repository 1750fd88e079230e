"""Whether a checkpoint is a causal language model whose weights all found their place, and the bytes of its files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import Any

from truetune.errors import Say, UserError
from truetune.records.files import blocks

# What torch.compile, DeepSpeed, DataParallel and PEFT put before the names of a model that they wrap.
WRAPPERS = {r"^(?:(?:_orig_mod|_forward_module|module|base_model\.model)\.)+": "", r"\.(?:_orig_mod|module)\.": "."}
BLOCK = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")
RECOMPUTED = ("inv_freq", "masked_bias", "attn.bias", "attention.bias", "position_ids")  # buffers of older releases
OTHER_SENSES = re.compile(r"vision|visual|image|audio|speech")
ENCODERS = {
    *("albert", "bert", "big_bird", "camembert", "data2vec-text", "deberta", "deberta-v2", "distilbert", "electra"),
    *("ernie", "esm", "eurobert", "megatron-bert", "modernbert", "mpnet", "nomic_bert", "rembert", "roberta"),
    *("roberta-prelayernorm", "roformer", "xlm-roberta", "xlm-roberta-xl", "xmod"),
}
OTHER_HEADS = re.compile(
    r"For(?:Sequence|Token)Classification|ForQuestionAnswering|ForMultipleChoice|ForMaskedLM|ForPreTraining|"
    r"ForNextSentencePrediction|ForTextEncoding|Reward|(?<!LMHead)Model$"
)


def refuse_architecture(config: Mapping[str, Any], named: str) -> None:
    """Raises UserError for a model that, by its config.json, does not continue texts."""
    names: Sequence[str] = config.get("architectures") or []
    if "AutoModelForCausalLM" in (config.get("auto_map") or {}):
        return
    reason = ""
    if config.get("is_encoder_decoder"):
        reason = "an encoder-decoder"
    elif config.get("model_type") in ENCODERS and not config.get("is_decoder"):
        reason = "an encoder, which reads a text in both directions"
    elif names and all(OTHER_HEADS.search(name) for name in names):
        reason = "without a head that predicts the next token"
    if reason:
        architecture = names[0] if names else config.get("model_type")
        raise UserError(f"{named}: {architecture} is {reason}; expected a causal decoder, such as LlamaForCausalLM")


def is_wrapped(names: Sequence[str]) -> bool:
    return any(re.search(pattern, name) for pattern in WRAPPERS for name in names)


def check_loaded(model: Any, loading: Mapping[str, Any], named: str, say: Say) -> None:
    """Raises UserError for weights that would be random, or that the architecture has no place for, by name.

    Tied weights and buffers need not be in a checkpoint; weights outside the blocks (other heads) are only reported.
    """
    blocks = int(getattr(model.config.get_text_config(decoder=True), "num_hidden_layers", 0))
    mismatched = sorted(loading["mismatched_keys"])
    if mismatched:
        name, stored_shape, shape = mismatched[0]
        raise UserError(
            f"{named}: {_tensors(mismatched)} of another shape than config.json says, the first: {name} is "
            f"{tuple(stored_shape)}, expected {tuple(shape)}; use the config.json that belongs to these weights"
        )
    missing = sorted(name for name in loading["missing_keys"] if name in dict(model.named_parameters()))
    if missing:
        raise UserError(
            f"{named}: {_tensors(missing)} missing, which would be random: {', '.join(missing[:3])}"
            f"{', ...' if len(missing) > 3 else ''}; config.json says {blocks} layers"
        )
    unexpected = sorted(name for name in loading["unexpected_keys"] if not name.endswith(RECOMPUTED))
    inner = [name for name in unexpected if BLOCK.search(name) and not OTHER_SENSES.search(name)]
    if inner:
        layers = 1 + max(int(number) for name in inner for number in BLOCK.findall(name))
        hint = f"weights of {layers} layers, config.json says {blocks}" if layers > blocks else "another architecture?"
        hint = "merge the adapter into its base first" if any("lora_" in name for name in inner) else hint
        raise UserError(f"{named}: {_tensors(inner)} without a place in this model, the first: {inner[0]} ({hint})")
    if unexpected:
        say(f"{named}: not used: {', '.join(unexpected[:3])}{', ...' if len(unexpected) > 3 else ''}")


def _tensors(names: Sequence[Any]) -> str:
    return f"{len(names)} tensor{'s are' if len(names) > 1 else ' is'}"


def hash_files(folder: Path, update: Callable[[bytes], object], stop: Event) -> None:
    """Hands on the bytes of a model's files; ends early once `stop` is set: nobody wants the hash then."""
    for path in sorted(p for p in folder.iterdir() if p.suffix in {".safetensors", ".json", ".model", ".txt"}):
        for block in blocks(path):
            if stop.is_set():
                return
            update(block)
