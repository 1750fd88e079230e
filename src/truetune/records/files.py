"""Files and folders that are written whole or not at all, their digests and locks. No torch."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from io import BufferedWriter
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from truetune.errors import Say, UserError, gathered, in_step, rank
from truetune.records.disk import writing

T = TypeVar("T")
TORN = ".tmp"  # the ending of files and folders that are not yet whole; their names begin with a dot
MANIFEST = "manifest.json"
LOCK = ".lock"  # in a folder that is worked in
IN_USE = "another run is working in this folder; choose another hydra.run.dir"


@contextmanager
def replacing_file(path: Path, needs: int) -> Generator[BufferedWriter]:
    """A file to write `needs` bytes to. Once on the disk it takes the place of `path`; after an error nothing is left.

    A reader sees the old file or the new one, never half of it, even after a power cut.
    """
    with writing(path, needs):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}{TORN}")
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)


def write_atomic(path: Path, text: str) -> None:
    # A lone surrogate in a user's text must not cost the record; JSON reads the replacement back as it was.
    content = text.encode("utf-8", errors="backslashreplace")
    with replacing_file(path, len(content)) as file:
        file.write(content)


@contextmanager
def replacing(folder: Path, *, manifest: bool = True) -> Generator[Path]:
    """A temporary folder, which becomes `folder` at the end; after an error nothing is left of it.

    A `manifest` of SHA-256 digests is written last, for `verify`. All files get the mode of the umask.
    """
    with writing(folder):
        temporary = folder.with_name(f".{folder.name[:12]}.{token_hex(4)}{TORN}")
        temporary.mkdir()  # mkdtemp would shut others out whatever the umask says
        try:
            yield temporary
            files = sorted(path for path in temporary.rglob("*") if path.is_file())
            for path in files:
                path.chmod(0o666 & temporary.stat().st_mode)  # safetensors writes through mkstemp
            if manifest:
                digests = {str(path.relative_to(temporary)): file_digest(path) for path in files}
                (temporary / MANIFEST).write_text(json.dumps(digests, indent=1), encoding="utf-8")
                for path in [*files, temporary / MANIFEST]:
                    with path.open("rb") as file:
                        os.fsync(file.fileno())
                sync_folder(temporary)
                if folder.exists():  # left by a process that was killed right after this
                    shutil.rmtree(folder)
            os.replace(temporary, folder)
            sync_folder(folder.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def verify(folder: Path) -> str | None:
    """What is wrong with a folder that has a manifest, in words; None if nothing is."""
    try:
        digests: dict[str, str] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        changes = [name for name, digest in digests.items() if file_digest(folder / name) != digest]
    except (OSError, ValueError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    if not digests:
        return f"{MANIFEST} names no file"
    return f"{changes[0]} has changed" if changes else None


def cached(folder: Path, build: Callable[[Path], None], say: Say) -> Path:
    """The folder, made by `build` if it is missing or damaged; two processes never build the same one at once."""
    if verify(folder) is None:
        return folder
    with _locked(folder, f".{folder.name}.lock", say):
        fault = verify(folder)
        if fault is None:
            return folder
        if folder.exists():
            say(f"the cached folder {folder} is damaged ({fault}); making it again")
            shutil.rmtree(folder)
        remove_torn(folder.parent, f".{folder.name[:12]}.*")  # left by a process that was killed while it built
        with replacing(folder) as temporary:
            build(temporary)
    return folder


def cached_json(path: Path, make: Callable[[], dict[str, Any]], read: Callable[[Any], T]) -> T:
    """What the file holds, or else what `make` returns, which is then written there; a damaged file is made again.

    One process makes at a time: another that wants the same waits, and reads it.
    """

    def from_file() -> T | None:
        try:
            return read(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    content, ranks = from_file(), in_step()
    is_everywhere = all(gathered(content is not None, ranks))
    if content is not None and is_everywhere:
        return content
    if ranks > 1:  # no rank waits for another's lock, and all take rank 0's content: it may depend on a clock
        text = gathered(json.dumps(make()), ranks)[0]
        if rank() == 0:
            write_atomic(path, text)
        return read(json.loads(text))
    with _locked(path, f".{path.stem}.lock"):
        if (content := from_file()) is not None:
            return content
        remove_torn(path.parent, f".{path.name}.*")  # left by a process that was killed while it wrote
        text = json.dumps(make())
        write_atomic(path, text)
        return read(json.loads(text))


@contextmanager
def _locked(path: Path, name: str, say: Say | None = None) -> Generator[None]:
    """Holds a lock of the operating system beside `path`; the lock of a dead process is free again."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if say is not None and in_use(path.with_name(name)):
            say(f"another run is making {path.name[:12]}; waiting for it")
        lock = FileLock(path.with_name(name)).acquire()
    with lock:
        yield


@contextmanager
def owned(folder: Path, refusal: str) -> Generator[None]:
    """Locks a folder while it is worked in; raises UserError with the words of `refusal` if another process does so."""
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{folder}: {refusal}") from None
    try:
        yield
    finally:
        lock.release()


def in_use(lock_file: Path) -> bool:
    """Whether another process holds the lock."""
    lock = FileLock(lock_file)
    try:
        if lock_file.exists():  # else the attempt would make it
            lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def remove_torn(folder: Path, pattern: str = ".*", *, deep: bool = False) -> None:
    """Removes what a killed process left half written; whoever calls this holds the folder's lock."""
    for path in (folder.rglob if deep else folder.glob)(f"{pattern}{TORN}"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return  # Windows cannot open a folder
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def source_digest(files: Iterable[Path]) -> str:
    """A hash of the content of source files, so that what one version made is not used by another."""
    return sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()


def file_digest(path: Path) -> str:
    digest = sha256()
    for block in blocks(path):
        digest.update(block)
    return digest.hexdigest()


def blocks(path: Path) -> Iterator[bytes]:
    """The file's bytes, 4 MiB at a time."""
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            yield block


def sidecar(checkpoint: Path) -> Path:
    """The file with the digest of a checkpoint and, below it, that of the checkpoint which it replaced."""
    return checkpoint.with_name(f"{checkpoint.name}.sha256")


def is_whole(checkpoint: Path) -> bool:
    """Whether the file has digests beside it, and its own is among them."""
    note = sidecar(checkpoint)
    lines = note.read_text(encoding="ascii", errors="replace").splitlines() if note.is_file() else []
    digests = [line.split()[0] for line in lines if line.strip()]
    return bool(digests) and file_digest(checkpoint) in digests


def check_digest(checkpoint: Path) -> None:
    """Raises UserError for a damaged file. One without a digest passes: it may have come from elsewhere."""
    if sidecar(checkpoint).is_file() and not is_whole(checkpoint):
        raise damaged(checkpoint, f"its SHA-256 differs from {sidecar(checkpoint).name}")


def damaged(checkpoint: Path, why: str) -> UserError:
    """The error for a damaged checkpoint; it names the newest whole one beside it, if there is any."""
    problem = f"{checkpoint}: the checkpoint is damaged ({why})"
    for path in sorted(checkpoint.parent.glob("*.ckpt"), key=lambda path: -path.stat().st_mtime):
        if path != checkpoint and is_whole(path):
            request = shlex.quote(f"resume={path.absolute()}")
            return UserError(f"{problem}; {path.name} beside it is whole: truetune {request}")
    return UserError(f"{problem}; start a new run")
