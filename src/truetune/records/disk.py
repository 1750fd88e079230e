"""Turns errors of a full or failing disk, whatever library met them, into one line that names the file. No torch."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from truetune.errors import EXPECTED, Unwritable

REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG}


@contextmanager
def writing(path: Path, needs: int = 0) -> Generator[None]:
    """Raises Unwritable, naming `path`, for a system's error in the block, or at once if `needs` bytes are not free."""
    try:
        parent = next((folder for folder in path.absolute().parents if folder.is_dir()), None)
        if parent is not None and needs > shutil.disk_usage(parent).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield
    except EXPECTED:
        raise
    except Exception as error:
        # torch hides the system's error in the context, safetensors (Rust) hides its number in the message.
        cause = error.__context__ if type(error) is RuntimeError else error
        match = re.search(r"\(os error (\d+)\)", str(error))
        number = cause.errno if isinstance(cause, OSError) else int(match[1]) if match else None
        if number is None:
            raise
        raise _unwritable(path, number, needs) from error


def refusal(error: BaseException, folder: Path) -> Unwritable | None:
    """The error of a full or failing disk, if it is behind `error`: libraries wrap it, or raise another on closing."""
    chain = [error]
    while (origin := chain[-1].__cause__ or chain[-1].__context__) is not None and origin not in chain:
        chain.append(origin)
    for cause in reversed(chain):
        if isinstance(cause, Unwritable):
            return cause
    for cause in reversed(chain):
        if isinstance(cause, OSError) and cause.errno in REFUSALS:
            return _unwritable(Path(os.fsdecode(cause.filename)) if cause.filename else folder, cause.errno, 0)
    return None


def _unwritable(path: Path, number: int, needs: int) -> Unwritable:
    text = f"{path.absolute()}: cannot be written: {os.strerror(number)}"
    if number in (errno.ENOSPC, errno.EDQUOT):
        parent = next(folder for folder in path.absolute().parents if folder.is_dir())
        need = f"needs {needs:,} bytes, " if needs else ""
        text += f" ({need}{shutil.disk_usage(parent).free:,} are free)"
    return Unwritable(text)
