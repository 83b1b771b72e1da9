"""Files in the user's cache folder: results that are slow to compute and may be deleted at any time.

Each file begins with a digest of its content, so that a damaged file is recognised and ignored. A folder that
cannot be read or written only means that results are computed again.
"""

import contextlib
import os
import sys
from pathlib import Path

from onebranch.atomic_files import write_atomically
from onebranch.errors import OnebranchError

VARIABLE = "ONEBRANCH_CACHE"
"""The environment variable that names another folder."""

DIGEST_BYTES = 32
"""The length of the SHA-256 digest at the beginning of a file."""


def cache_folder() -> Path:
    """The folder of cached files, which may not exist; the operating system's convention for caches."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    if sys.platform == "win32":
        return (
            Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "onebranch" / "Cache"
        )
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "onebranch"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "onebranch"


def read_cached(name: str) -> bytes | None:
    """The content that was stored under a name; None if there is none, or if the file is damaged."""
    try:
        stored = (cache_folder() / name).read_bytes()
    except (OSError, RuntimeError):  # RuntimeError: there is no home folder
        return None
    content = stored[DIGEST_BYTES:]
    return content if stored[:DIGEST_BYTES] == _digest(content) else None


def store(name: str, content: bytes) -> None:
    """Store a content under a name, atomically. Nothing happens if the folder cannot be written."""
    with contextlib.suppress(OSError, RuntimeError, OnebranchError):
        folder = cache_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(folder / name, _digest(content) + content, overwrite=True)


def installed_version(package: str) -> str:
    """The version of an installed package, for names of cached files; empty if it has no metadata."""
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _digest(content: bytes) -> bytes:
    import hashlib  # imported late: it loads OpenSSL, which enhancing does not need

    return hashlib.sha256(content).digest()
