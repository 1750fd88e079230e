"""Folders that exist whole or not at all, named by content hash, verified when read: the cache of pre-trained bases."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from truetune.errors import UserError
from truetune.records.files import TORN, file_digest, remove_torn, sync_folder, writing

MANIFEST = "manifest.json"
IN_USE = "another run is working in this folder; choose another hydra.run.dir"


def cached(folder: Path, build: Callable[[Path], None], say: Callable[[str], None]) -> Path:
    """The folder, made by `build` if it is missing or damaged; two processes never build the same one at once.

    The lock is the operating system's, so a dead holder's lock is free again.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    if lock_is_held(lock):
        say(f"another run is making {folder.name[:12]}; waiting for it")
    with lock:
        state = verify(folder)
        if state is None:
            return folder
        if folder.exists():
            say(f"the cached folder {folder} is damaged ({state}); making it again")
            shutil.rmtree(folder)
        prefix = f".{folder.name[:12]}."
        remove_torn(folder.parent, f"{prefix}*")  # of a process that was killed while it built
        with written(folder, prefix) as temporary:
            build(temporary)
    return folder


@contextmanager
def owned(folder: Path, refusal: str) -> Generator[None]:
    """Locks a folder that is worked in; raises UserError with the words of `refusal` if another process does."""
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{folder}: {refusal}") from None
    try:
        yield
    finally:
        lock.release()


def in_use(folder: Path) -> bool:
    """Whether another process has it locked as `owned` does."""
    return folder.is_dir() and lock_is_held(FileLock(folder / ".lock"))


@contextmanager
def beside(folder: Path, prefix: str) -> Generator[Path]:
    """A temporary folder beside `folder`; what has not been moved away from it by the end is removed."""
    with writing(folder):
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=prefix, suffix=TORN))
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def written(folder: Path, prefix: str) -> Generator[Path]:
    """A temporary folder beside `folder`, which it becomes at the end, or nothing is left of it."""
    with beside(folder, prefix) as temporary:
        yield temporary
        commit(temporary, folder)


def lock_is_held(lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def commit(temporary: Path, folder: Path) -> None:
    """Writes the manifest of SHA-256 digests last, flushes, then renames."""
    files = sorted(path for path in temporary.rglob("*") if path.is_file())
    digests = {str(path.relative_to(temporary)): file_digest(path) for path in files}
    (temporary / MANIFEST).write_text(json.dumps(digests, indent=1), encoding="utf-8")
    for path in [*files, temporary / MANIFEST]:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sync_folder(temporary)
    if folder.exists():  # of a process that was killed right after this
        shutil.rmtree(folder)
    os.replace(temporary, folder)
    sync_folder(folder.parent)


def verify(folder: Path) -> str | None:
    """What is wrong with a committed folder, in words; None if nothing is."""
    try:
        digests: dict[str, str] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        changed = [name for name, digest in digests.items() if file_digest(folder / name) != digest]
    except (OSError, ValueError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    if not digests:
        return f"{MANIFEST} names no file"
    return f"{changed[0]} has changed" if changed else None
