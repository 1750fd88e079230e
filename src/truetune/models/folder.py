"""Folders that exist whole or not at all, named by content hash, verified when read: the cache of pre-trained bases."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from filelock import FileLock

MANIFEST = "manifest.json"


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
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name[:12]}."))
        try:
            build(temporary)
            commit(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


def lock_is_held(lock: FileLock) -> bool:
    from filelock import Timeout

    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def commit(temporary: Path, folder: Path) -> None:
    """Writes the manifest of SHA-256 digests last, flushes, then renames."""
    files = sorted(path for path in temporary.rglob("*") if path.is_file())
    digests = {str(path.relative_to(temporary)): _digest(path) for path in files}
    (temporary / MANIFEST).write_text(json.dumps(digests, indent=1), encoding="utf-8")
    for path in [*files, temporary / MANIFEST]:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    os.replace(temporary, folder)


def verify(folder: Path) -> str | None:
    """What is wrong with a committed folder, in words; None if nothing is."""
    try:
        digests: dict[str, str] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        changed = [name for name, digest in digests.items() if _digest(folder / name) != digest]
    except (OSError, ValueError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return f"{changed[0]} has changed" if changed else None


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
