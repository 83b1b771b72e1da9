"""Pictures in folders, recognized by suffix."""

import os
from collections.abc import Iterator
from pathlib import Path

from onebranch.errors import OnebranchError
from onebranch.images.formats import (
    FORMAT_BY_SUFFIX,
    READ_ONLY_FORMATS,
    READ_ONLY_SUFFIXES,
    UNREAD_SUFFIXES,
)

READABLE_SUFFIXES = READ_ONLY_SUFFIXES.union(
    FORMAT_BY_SUFFIX, *(each.suffixes for each in READ_ONLY_FORMATS.values())
)
"""Suffixes of pictures that can be read, in lower case."""


def find_pictures(folder: Path | str, recursive: bool = False) -> list[Path]:
    """The pictures in a folder, sorted. recursive: include those in its subfolders.

    Hidden files are left out, and links to folders are not followed. Raises OnebranchError if the folder is
    missing, cannot be read or contains no picture.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise OnebranchError(f"the picture folder '{folder}' {what}")
    files = files_below(folder, None if recursive else 1)
    pictures = sorted(path for path in files if is_picture(path) and path.is_file())
    if not pictures:
        raise no_pictures_error(folder, recursive)
    return pictures


def is_picture(path: Path) -> bool:
    """True if the suffix is that of a picture format that can be read."""
    return path.suffix.lower() in READABLE_SUFFIXES


def is_unread_picture(path: Path) -> bool:
    """True if the suffix is that of a picture format that cannot be read, such as .heic."""
    return path.suffix.lower() in UNREAD_SUFFIXES


def no_pictures_error(folder: Path, recursive: bool) -> OnebranchError:
    """The error for a folder without pictures."""
    hint = "" if recursive else " (its subfolders were not searched)"
    suffixes = ", ".join(sorted(READABLE_SUFFIXES))
    return OnebranchError(f"no picture in '{folder}'{hint}; looked for {suffixes}")


def files_below(folder: Path, depth: int | None = None) -> Iterator[Path]:
    """The files in a folder and its subfolders, without hidden ones, in no particular order.

    depth: number of levels that are searched; 1 means only the folder itself, None means all. Links, even to
    folders, are returned like files and are not followed. Raises OnebranchError if a folder cannot be read.
    """

    def fail(error: OSError) -> None:
        raise OnebranchError(f"cannot read the folder '{error.filename}': {error.strerror}")

    level = len(folder.parts)
    for text, subfolders, names in os.walk(folder, onerror=fail):
        current = Path(text)
        yield from (current / name for name in _visible(names))
        links = [name for name in _visible(subfolders) if (current / name).is_symlink()]
        yield from (current / name for name in links)
        goes_deeper = depth is None or len(current.parts) - level + 1 < depth
        subfolders[:] = sorted(set(_visible(subfolders)).difference(links)) if goes_deeper else []


def _visible(names: list[str]) -> list[str]:
    return [name for name in names if not name.startswith(".")]
