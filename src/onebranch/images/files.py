"""Files that appear whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from onebranch.errors import OnebranchError
from onebranch.images.leftovers import MINE, name_in_the_making


def check_free(path: Path, overwrite: bool = False, *, missing_folder: bool = False) -> None:
    """OnebranchError if no file can be put there: it is a folder, the name is taken, there is no folder.

    missing_folder: whether the folder will be made.
    """
    if "\0" in str(path):
        raise OnebranchError(f"cannot write '{path}': a name cannot hold NUL")
    if path.is_dir():
        raise OnebranchError(f"cannot write '{path}': it is a folder")
    if not overwrite and os.path.lexists(path):
        raise OnebranchError(_exists(path))
    if not missing_folder and not path.parent.is_dir():
        raise OnebranchError(f"cannot write '{path}': there is no folder '{path.parent}'")


def write_atomically(path: Path, content: bytes, *, overwrite: bool = False) -> None:
    """Write a file by a temporary one beside it; see `placed`."""
    with placed(path, overwrite) as temporary, temporary.open("xb") as file:
        file.write(content)


@contextlib.contextmanager
def placed(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """A temporary name beside the path; what was written there is synced and takes the path's name.

    A failure leaves nothing behind. Two writers cannot both succeed without `overwrite`. OnebranchError in
    one line for whatever the system refuses.
    """
    temporary = path.parent / name_in_the_making()
    MINE.add(temporary)
    try:
        yield temporary
        _sync(temporary)
        (os.replace if overwrite else _place)(temporary, path)
    except FileExistsError:
        raise OnebranchError(_exists(path)) from None
    except OSError as error:
        raise OnebranchError(f"cannot write '{path}': {_why(error)}") from None
    finally:
        temporary.unlink(missing_ok=True)
        MINE.discard(temporary)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _place(temporary: Path, path: Path) -> None:
    """Give the file its name unless the name is taken; FileExistsError if it is."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # no links on this file system: hold the name with an empty file, then replace that
        with path.open("xb"):
            pass
        try:
            os.replace(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                path.unlink()
            raise


def _exists(path: Path) -> str:
    return f"cannot write '{path}': it exists; choose another name or allow overwriting (--overwrite)"


def _why(error: Exception) -> str:
    """The reason in the operating system's words, lower case: 'no space left on device'."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return text[:1].lower() + text[1:]
