"""Makes the objects that a configuration names by `_target_`: only of allowed classes, with arguments they take."""

from __future__ import annotations

import difflib
import inspect
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from hydra._internal.utils import _locate  # pyright: ignore[reportPrivateUsage]
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from truetune.config.values import KEYS
from truetune.errors import UserError, first_line
from truetune.records.earlier import MOVED_KEYS
from truetune.records.record import leaves

ALLOWED_PACKAGES = ("truetune", "torch", "lightning")
OF_HYDRA = ("_target_", "_partial_", "_args_", "_convert_", "_recursive_")

OF_THE_TEMPLATE = {  # keys of lightning-hydra-template, and what is typed here instead
    "ckpt_path": "resume=RUN_DIR goes on with a run, model.name_or_path=DIR starts from a model",
    "train": "truetune always trains; truetune-measure only measures",
    "test": "a run is always measured at its end; truetune-measure measures any model",
    "extras.print_config": "truetune --cfg job prints the configuration",
    "extras.enforce_tags": "tags=[...] are never asked for",
    "extras.ignore_warnings": "the advice of libraries is always left out",
    "paths.root_dir": "paths.log_dir=... is where runs are written",
    "paths.data_dir": "data.train_file=... names your rows",
    "paths.work_dir": "relative paths begin where the command is typed",
}


def make(node: Mapping[str, Any], key: str, trusted: Collection[str] = (), **extra: Any) -> Any:
    """The object that Hydra's instantiate makes of a node, after `check`; `extra` are arguments that no node holds."""
    check(node, key, trusted, extra)
    try:
        # Hydra would turn the dataclasses among the extras into dictionaries: they are passed by a call of our own.
        if extra:
            return instantiate({**node, "_partial_": True}, _convert_="all")(**extra)
        return instantiate(dict(node), _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        # An error of Lightning's, which is not imported here.
        is_misconfigured = type(cause).__name__ == "MisconfigurationException"
        if cause is None or is_misconfigured or isinstance(cause, (TypeError, ValueError, ImportError, AttributeError)):
            raise UserError(f"{key}: {first_line(cause or error)}") from error
        raise


def make_all(config: Mapping[str, Any], group: str, trusted: Collection[str] = (), **extra: Any) -> dict[str, Any]:
    """The objects of a group that holds them by name; empty if the configuration has no such group."""
    members = config.get(group) or {}
    return {name: make(node, f"{group}.{name}", trusted, **extra) for name, node in members.items()}


def check(node: Any, key: str, trusted: Collection[str] = (), extra: Collection[str] = ()) -> type:
    """The node's class; raises UserError naming the first key that it does not take, or takes with another value."""
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise UserError(f"{key}: names no class; type +{key}._target_=...")
    check_allowed(node, key, trusted)
    target = str(node["_target_"])
    owner = _class(f"{key}._target_={target}", target, trusted)
    validate(f"{key}._target_", target)
    try:
        parameters = inspect.signature(owner).parameters
    except ValueError:  # a class written in C does not tell
        return owner
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for name, value in node.items():
        at = f"{key}.{name}"
        if name in OF_HYDRA:
            continue
        if name not in parameters and not takes_any:
            refusal = no_such_key(at, [f"{key}.{parameter}" for parameter in parameters], value)
            raise UserError(f"{refusal}; ~{at} takes it out" if target.startswith("torch.") else refusal)
        inner_nodes = list(nodes(value, at))
        for place, inner in inner_nodes:  # these are made before the object that holds them
            check(inner, place, trusted)
        if not inner_nodes:
            validate(at, value, owner)
    is_partial = node.get("_partial_") or node.get("_args_")
    for name, parameter in {} if is_partial else parameters.items():
        is_variadic = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        if parameter.default is parameter.empty and not is_variadic and name not in node and name not in extra:
            raise UserError(missing(f"{key}.{name}"))
    return owner


def check_allowed(node: Any, key: str, trusted: Collection[str] = ()) -> None:
    """Refuses a class of another package before it is imported, for that would run the package's code."""
    for at, inner in nodes(node, key):
        target = str(inner["_target_"])
        package = target.partition(".")[0]
        if package not in ALLOWED_PACKAGES and package not in trusted and target not in trusted:
            raise UserError(
                f"{at}._target_={target}: not allowed; classes come from {', '.join(ALLOWED_PACKAGES)}, "
                f"or are named in a file of conf/; +allow=[{package}] allows that package"
            )


def trusted_classes(hydra: Any, config: dict[str, Any], words: list[str]) -> frozenset[str]:
    """What is allowed beside our own classes: packages in `+allow=[...]`, and classes that the user's conf/ names.

    What stands before `resume=` was read from a run folder, which anyone may have made: it allows nothing.
    """
    packages = {str(node["_target_"]).partition(".")[0] for _, node in nodes(config, "")}
    if packages <= {*ALLOWED_PACKAGES} or hydra is None:
        return frozenset()
    positions = [at for at, word in enumerate(words) if word.startswith("resume=") and word != "resume=null"]
    new_words = words[positions[-1] + 1 :] if positions else words
    extra_packages: list[str] = config.get("allow") or []
    names = set(extra_packages if any(word.lstrip("+").startswith("allow=") for word in new_words) else ())
    for source in hydra.runtime.config_sources:
        if source.schema == "file" and not (positions and source.provider == "hydra.searchpath in command-line"):
            for file in Path(source.path).rglob("*.yaml"):
                names.update(re.findall(r"_target_:\s*[\"']?([\w.]+)", file.read_text(encoding="utf-8")))
    return frozenset(names)


def _class(word: str, target: str, trusted: Collection[str]) -> type:
    """The class of a name. Raises UserError if it is no class (`torch.load` would run what it reads) or not ours, even
    if it is reached through ours, as `truetune.cli.os.system` is.
    """
    try:
        candidate = _locate(target)  # not get_object, which writes what it raises to the log as well
    except Exception as error:  # whatever a module raises that cannot be imported
        raise UserError(f"{word}: {first_line(error.__cause__ or error)}") from None
    if not inspect.isclass(candidate):
        raise UserError(f"{word}: not allowed; it is no class")
    module = str(getattr(candidate, "__module__", ""))
    if module.partition(".")[0] not in (*ALLOWED_PACKAGES, *(name.partition(".")[0] for name in trusted)):
        raise UserError(f"{word}: not allowed; it belongs to {module or 'no module'}")
    return candidate


def nodes(value: Any, key: str, names: Collection[str] = ("_target_",)) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every mapping in `value` that has one of the keys `names`, which tell what is to be called; each with its key."""
    inner: Iterable[tuple[str, Any]] = ()
    if isinstance(value, Mapping):
        if any(name in value for name in names):
            yield key, value
        inner = ((f"{key}.{name}".lstrip("."), item) for name, item in value.items())
    elif isinstance(value, Sequence) and not isinstance(value, str):
        inner = ((f"{key}[{index}]", item) for index, item in enumerate(value))
    for at, item in inner:
        yield from nodes(item, at, names)


@cache
def _adapter(key: str, owner: type | None) -> tuple[TypeAdapter[Any], list[str]]:
    """What checks the key's value, and the names of the fields that the value may hold, if any."""
    hint = KEYS.get(key, Any)
    if key not in KEYS and owner is not None and not owner.__module__.startswith(("torch.", "lightning.")):
        try:
            # A dataclass inherits fields whose types only its parent's module can resolve, which its __init__ cannot.
            hints = get_type_hints(owner if is_dataclass(owner) else owner.__init__, include_extras=True)
            hint = hints.get(key.rpartition(".")[2], Any)
            return TypeAdapter(hint), list(getattr(hint, "__annotations__", {}))
        except (NameError, PydanticUserError):  # a name for the type checker alone, a type that pydantic cannot check
            hint = Any
    return TypeAdapter(hint), []


def validate(key: str, value: Any, owner: type | None = None) -> None:
    """Raises UserError, in one line, if the value is not what KEYS or the annotation of the class `owner` says."""
    adapter, fields = _adapter(key, owner)
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        problems = error.errors()
    else:
        return
    places: list[tuple[str, Any]] = []
    for problem in problems:
        at, inner = key, value
        for part in problem["loc"]:  # a position in a list is no key, nor is a union's member
            if isinstance(inner, Mapping) and part in inner:
                at, inner = f"{at}.{part}", inner[part]
        places.append((at, inner))
    (at, inner), kind = places[0], problems[0]["type"]
    setting = f"{at}={'' if inner is None else str(inner)[:80]}"
    if kind == "missing" and isinstance(problems[0]["loc"][-1], str):
        raise UserError(missing(f"{at}.{problems[0]['loc'][-1]}"))
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        raise UserError(no_such_key(at, [f"{key}.{field}" for field in fields], inner))
    if isinstance(inner, Mapping):
        leaf, content = next(leaves(inner, f"{at}."), (at, inner))
        if content != {}:
            raise UserError(f"{at}: should be a value, found keys ({leaf}={str(content)[:80]}); type {at}=...")
    if kind in ("dict_type", "mapping_type", "dataclass_type"):
        example = f"; set one of them, such as {at}.{fields[0]}" if fields else ""
        raise UserError(f"{setting}: should hold keys of its own{example}")
    # Each member of a union has its own message.
    messages = [p["msg"] for p, (place, _) in zip(problems, places, strict=True) if place == at]
    reasons = dict.fromkeys(message.replace("Input should", "should") for message in messages)
    raise UserError(f"{setting}: {' or '.join(reasons)}{_as_text(adapter, value)}")


def _as_text(adapter: TypeAdapter[Any], value: Any) -> str:
    """Advice on a text that would be allowed if it were the number, switch or list that it spells; or nothing."""
    try:
        adapter.validate_python(json.loads(value))
    except (TypeError, ValueError):  # a ValidationError is one
        return ""
    return "; this is text, as the environment's always is: type '...=\"${oc.decode:${oc.env:NAME}}\"'"


def of_the_template(key: str, value: Any = None) -> str:
    """What to type instead of a key of lightning-hydra-template, or of one that holds such a key; or nothing."""
    keys = [leaf for leaf, _ in leaves(value, f"{key}.")] if isinstance(value, Mapping) else [key]
    return next((OF_THE_TEMPLATE[leaf] for leaf in keys if leaf in OF_THE_TEMPLATE), "")


def no_such_key(key: str, known: Sequence[str], value: Any = None) -> str:
    """The line that refuses a key, with what it is called now or the nearest names."""
    if isinstance(value, Mapping):
        key = next((leaf for leaf, _ in leaves(value, f"{key}.") if leaf in MOVED_KEYS), key)
    if advice := of_the_template(key, value):
        return f"{key}: is a key of lightning-hydra-template; here {advice}"
    if key == "extras":
        return "extras: its keys are in measure, knowledge and run now; type such as run.threads=..."
    if key in MOVED_KEYS:
        return f"{key}: is {MOVED_KEYS[key]} now; type {MOVED_KEYS[key]}=..."
    return f"{key}: no such key{near(key, known)}"


def missing(key: str) -> str:
    return f"{key} is missing, and a run reads it; type {key}=..."


def near(word: str, known: Sequence[str]) -> str:
    """`; did you mean a, b?` or nothing."""
    names = difflib.get_close_matches(word, known, n=3, cutoff=0.6)
    return f"; did you mean {', '.join(names)}?" if names else ""
