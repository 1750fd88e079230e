"""Files that are written whole or not at all, and what is said when the disk refuses. No torch."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from truetune.errors import EXPECTED, Unwritable

TORN = ".tmp"  # the ending of what is not yet whole; its name begins with a dot
REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG}


def write_atomic(path: Path, text: str) -> None:
    """A reader sees the old file or the new one, never half of it, even after a power cut."""
    # A lone surrogate in a user's text must not cost the record; JSON reads the replacement back as it was.
    content = text.encode("utf-8", errors="backslashreplace")
    with writing(path, len(content)):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=TORN)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)  # mkstemp keeps the file to its owner; a report is for reading
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return  # Windows cannot open a folder
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_torn(folder: Path, pattern: str = ".*", *, deep: bool = False) -> None:
    """What a killed process left half written; whoever calls this holds the folder's lock."""
    for path in (folder.rglob if deep else folder.glob)(f"{pattern}{TORN}"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def file_digest(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def writing(path: Path, needs: int = 0) -> Generator[None]:
    """Raises Unwritable, naming `path`, for an error of the system inside, or at once if `needs` bytes are not free."""
    try:
        parent = next((folder for folder in path.absolute().parents if folder.is_dir()), None)
        if parent is not None and needs > shutil.disk_usage(parent).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield
    except EXPECTED:
        raise
    except Exception as error:
        number = _number(error)
        if number is None:
            raise
        raise _unwritable(path, number, needs) from error


def refusal(error: BaseException, folder: Path) -> Unwritable | None:
    """What a full or failing disk is behind, if one is: libraries wrap the error, or raise another while closing."""
    chain = [error]
    while (before := chain[-1].__cause__ or chain[-1].__context__) is not None and before not in chain:
        chain.append(before)
    known = [found for found in chain if isinstance(found, Unwritable)]
    if known:
        return known[-1]
    for first in reversed(chain):
        if isinstance(first, OSError) and first.errno in REFUSALS:
            return _unwritable(Path(os.fsdecode(first.filename)) if first.filename else folder, first.errno, 0)
    return None


def _number(error: BaseException) -> int | None:
    """The system's error number: torch hides it in the context, safetensors (Rust) in the words."""
    found = error.__context__ if type(error) is RuntimeError else error
    if isinstance(found, OSError):
        return found.errno
    named = re.search(r"\(os error (\d+)\)", str(error))
    return int(named[1]) if named else None


def _unwritable(path: Path, number: int, needs: int) -> Unwritable:
    text = f"{path.absolute()}: cannot be written: {os.strerror(number)}"
    if number in (errno.ENOSPC, errno.EDQUOT):
        parent = next(folder for folder in path.absolute().parents if folder.is_dir())
        needed = f"needs {needs:,} bytes, " if needs else ""
        text += f" ({needed}{shutil.disk_usage(parent).free:,} are free)"
    return Unwritable(text)
