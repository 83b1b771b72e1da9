"""Pictures found in folders, told by their suffix."""

import os
from collections.abc import Iterator
from pathlib import Path

from onebranch.errors import OnebranchError
from onebranch.images.formats import BY_SUFFIX, ONLY_READ

READ = frozenset(BY_SUFFIX).union(*(form.suffixes for form in ONLY_READ.values()))
"""Every suffix of a picture that is read, in lower case."""


def find_pictures(folder: Path | str, recursive: bool = False) -> list[Path]:
    """The pictures in a folder, told by suffix, sorted; with `recursive` those in its folders too.

    Hidden files are left out, links to folders are not followed. OnebranchError if the folder is missing,
    cannot be read or holds no picture.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise OnebranchError(f"the picture folder '{folder}' {what}")
    found = [path for path in files_below(folder, None if recursive else 1) if path.is_file()]
    pictures = sorted(path for path in found if is_picture(path))
    if not pictures:
        raise none_in(folder, recursive)
    return pictures


def is_picture(path: Path) -> bool:
    """Whether its suffix is that of a picture that is read."""
    return path.suffix.lower() in READ


def none_in(folder: Path, recursive: bool) -> OnebranchError:
    """That a folder holds no picture."""
    hint = "" if recursive else " (its subfolders were not searched)"
    return OnebranchError(f"no picture in '{folder}'{hint}; looked for {', '.join(sorted(READ))}")


def files_below(folder: Path, depth: int | None = None) -> Iterator[Path]:
    """Files in a folder, and as many folders deep (1: its own; None: any number), in no order.

    Without hidden ones. Links are given as they are, those to folders too: they are not followed.
    OnebranchError if a folder cannot be read.
    """

    def fail(error: OSError) -> None:
        raise OnebranchError(f"cannot read the folder '{error.filename}': {error.strerror}")

    level = len(folder.parts)
    for text, folders, names in os.walk(folder, onerror=fail):
        place = Path(text)
        yield from (place / name for name in names if not name.startswith("."))
        shown = sorted(name for name in folders if not name.startswith("."))
        yield from (place / name for name in shown if (place / name).is_symlink())
        deeper = depth is None or len(place.parts) - level + 1 < depth
        folders[:] = [name for name in shown if deeper and not (place / name).is_symlink()]
