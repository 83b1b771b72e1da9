"""Files that appear whole or not at all, and pictures found in folders."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from onebranch.errors import OnebranchError
from onebranch.images.formats import BY_SUFFIX


def check_free(path: Path, overwrite: bool = False, *, missing_folder: bool = False) -> None:
    """OnebranchError if no file can be put there: it is a folder, the name is taken, there is no folder.

    missing_folder: whether the folder will be made.
    """
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
    temporary = path.parent / f".onebranch-{os.urandom(8).hex()}.part"
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


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _place(temporary: Path, path: Path) -> None:
    """Give the file its name unless the name is taken; FileExistsError if it is."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except (
        OSError
    ):  # a file system without links: hold the name with an empty file, then put the real one there
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


def find_pictures(folder: Path | str, recursive: bool = False) -> list[Path]:
    """The pictures in a folder, told by suffix, sorted; with `recursive` those in its folders too.

    Hidden files are left out, links to folders are not followed. OnebranchError if the folder is missing,
    cannot be read or holds no picture.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise OnebranchError(f"the picture folder '{folder}' {what}")
    found = [path for path in _files(folder, recursive) if path.suffix.lower() in BY_SUFFIX]
    if not found:
        hint = "" if recursive else " (its subfolders were not searched)"
        raise OnebranchError(f"no picture in '{folder}'{hint}; looked for {', '.join(BY_SUFFIX)}")
    return sorted(found)


def _files(folder: Path, recursive: bool) -> list[Path]:
    def fail(error: OSError) -> None:
        raise OnebranchError(f"cannot read the folder '{error.filename}': {_why(error)}")

    result: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        result += [Path(place) / name for name in names if not name.startswith(".")]
    return [path for path in result if path.is_file()]
