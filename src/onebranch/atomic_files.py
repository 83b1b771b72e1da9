"""Atomic file writing: a file appears complete under its name, or not at all.

Everything is written to a temporary file in the target's folder, flushed to disk, and then renamed. A
temporary name holds the machine and the process that writes it, so that leftovers of killed processes can be
distinguished from files that another process is writing.
"""

import contextlib
import os
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from onebranch.errors import OnebranchError

MAX_AGE_SECONDS = 24 * 3600.0
"""A temporary file of another machine is a leftover once it has not changed for this long."""

ACTIVE_TEMPORARY_FILES: set[Path] = set()
"""The temporary files that this process is writing now."""


def check_writable(path: Path, overwrite: bool = False, *, folder_will_exist: bool = False) -> None:
    """Raise OnebranchError if no file can be written at the path.

    These are: a name with NUL, a folder, an existing file (unless `overwrite`), and a path whose folder is
    missing (unless `folder_will_exist`: the caller creates it later).
    """
    if "\0" in str(path):
        raise OnebranchError(f"cannot write '{path}': names cannot contain NUL")
    if path.is_dir():
        raise OnebranchError(f"cannot write '{path}': it is a folder")
    if not overwrite and os.path.lexists(path):
        raise OnebranchError(already_exists(path))
    if not folder_will_exist and not path.parent.is_dir():
        raise OnebranchError(f"cannot write '{path}': there is no folder '{path.parent}'")


def write_atomically(path: Path, content: bytes, *, overwrite: bool = False) -> None:
    """Write the content to a file that appears complete or not at all; errors as `atomic_path`."""
    with atomic_path(path, overwrite) as temporary, temporary.open("xb") as file:
        file.write(content)


@contextlib.contextmanager
def atomic_path(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """A temporary path in the same folder; the file written there is flushed and renamed to `path`.

    The rename happens when the context ends without an exception; otherwise the temporary file is removed and
    `path` is unchanged. Without `overwrite`, at most one of several concurrent writers succeeds. An OSError
    inside the context, or of the rename, is raised as OnebranchError.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_path(Path(folder, "a.txt")) as temporary:
    ...         _ = temporary.write_text("complete")
    ...     Path(folder, "a.txt").read_text()
    'complete'
    """
    try:
        with temporary_path(path.parent) as temporary:
            yield temporary
            # Without this, a power failure after the rename could leave an empty file under the final name.
            _flush_to_disk(temporary)
            (os.replace if overwrite else _rename_if_free)(temporary, path)
    except FileExistsError:
        raise OnebranchError(already_exists(path)) from None
    except OSError as error:
        raise OnebranchError(f"cannot write '{path}': {_reason(error)}") from None


@contextlib.contextmanager
def temporary_path(folder: Path, suffix: str = "") -> Iterator[Path]:
    """A new temporary path in the folder; a file left there is removed when the context ends."""
    temporary = folder / f"{temporary_name()}{suffix}"
    ACTIVE_TEMPORARY_FILES.add(temporary)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
        ACTIVE_TEMPORARY_FILES.discard(temporary)


def temporary_name() -> str:
    """A new hidden file name that holds this machine and this process."""
    return f".onebranch-{_machine()}-{os.getpid()}-{os.urandom(8).hex()}.part"


def remove_leftovers(folder: Path, now: float | None = None) -> list[Path]:
    """Remove the temporary files in the folder that no process writes any more; return them, sorted.

    These are the files of processes of this machine that have ended, and files of other machines that have
    not changed for `MAX_AGE_SECONDS`. now: the time, in seconds since the epoch.
    """
    temporaries = sorted(folder.glob(".onebranch-*.part*")) if folder.is_dir() else []
    leftovers = [path for path in temporaries if _is_leftover(path, time.time() if now is None else now)]
    removed = []
    for path in leftovers:
        try:
            path.unlink()
            removed.append(path)
        except OSError:  # another process has removed it, or holds it open
            continue
    return removed


def _flush_to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _rename_if_free(temporary: Path, path: Path) -> None:
    """Rename the file unless the name is taken; raises FileExistsError if it is."""
    # A rename would silently replace a file that another process has just written; a link fails if the name
    # is taken. The temporary name is removed by `temporary_path`.
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # no hard links on this file system: reserve the name with an empty file, then replace it
        with path.open("xb"):
            pass
        try:
            os.replace(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                path.unlink()
            raise


def already_exists(path: Path) -> str:
    """The error message for a file that must not be replaced."""
    return f"cannot write '{path}': it exists; choose another name or allow overwriting (--overwrite)"


def _reason(error: OSError) -> str:
    """The operating system's message, its first letter in lower case: 'no space left on device'."""
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]


def _is_leftover(path: Path, now: float) -> bool:
    if path in ACTIVE_TEMPORARY_FILES:
        return False
    # The process number says nothing about processes of another machine, which may share this folder.
    _, machine, process, *_ = (*path.name.split("-"), "", "")
    if machine == _machine() and process.isdecimal():
        return int(process) == os.getpid() or not _is_running(int(process))
    try:
        return now - path.lstat().st_mtime > MAX_AGE_SECONDS
    except OSError:
        return False


def _is_running(process: int) -> bool:
    """True if the process runs, or if that cannot be determined."""
    if os.name != "posix":  # os.kill can end the process there; but files in use cannot be removed either
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _machine() -> str:
    """A hash of this machine's name: eight hexadecimal digits."""
    name = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
    return f"{zlib.crc32(name.encode()):08x}"
