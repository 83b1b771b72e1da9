"""Whole files or none: bytes reach their path by one rename, or the path stays as it was."""

import os
import secrets
from pathlib import Path

from onebranch.errors import OnebranchError


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise OnebranchError where `path` exists and may not be replaced."""
    if path.exists() and not overwrite:
        raise OnebranchError(f"{path} exists; choose another name or pass --overwrite (overwrite=True)")


def store(path: str | os.PathLike[str], data: bytes, overwrite: bool = False) -> None:
    """Write `data` to `path`: into a temporary file beside it, to the disk, then renamed.

    Raises OnebranchError where the path exists (unless `overwrite`), the folder does not, or the disk is
    full; then nothing is left behind.
    """
    target = Path(path)
    refuse_existing(target, overwrite)
    try:
        _replace(target, data)
    except OSError as error:
        raise OnebranchError(f"cannot write {target}: {error.strerror or error}") from None


def _replace(target: Path, data: bytes) -> None:
    part = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.part")
    try:
        with open(part, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
