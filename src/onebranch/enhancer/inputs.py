"""Which pictures are enhanced: files, folders, patterns and lists become one sequence of files."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from onebranch.errors import OnebranchError
from onebranch.images.folders import files_below, is_picture, none_in

MAGIC = frozenset("*?[")
"""What makes a name a pattern where no file has that very name."""


@dataclass(frozen=True)
class Source:
    """A picture. below: the folder, from the one that was named, in which it was found. found: so it was."""

    path: Path
    below: Path = Path()
    found: bool = False


@dataclass(frozen=True)
class Sources:
    """Pictures, each once, and lines about what was left out."""

    pictures: tuple[Source, ...]
    left_out: tuple[str, ...] = ()


def real(path: Path) -> Path:
    """Where a path leads; links that go in a circle stay what they are (`Path.resolve` raises there)."""
    return Path(os.path.realpath(path))


def listed(content: bytes) -> list[str]:
    """The paths in a list: one a line, or ended by NUL where there is one. Empty lines are left out.

    >>> listed(b"a.png\\nb c.png\\n"), listed(b"a.png\\0b\\nc.png\\0")
    (['a.png', 'b c.png'], ['a.png', 'b\\nc.png'])
    """
    content = content.removeprefix(b"\xef\xbb\xbf")
    lines = (
        content.split(b"\0") if b"\0" in content else [line.rstrip(b"\r") for line in content.split(b"\n")]
    )
    return [os.fsdecode(line) for line in lines if line]


def sources_of(
    paths: Iterable[str | os.PathLike[str]], recursive: bool = False, results: Sequence[Path] = ()
) -> Sources:
    """The pictures of files, folders and patterns, in their order.

    A file is taken whatever its suffix, a folder stands for the pictures in it, and with `recursive` in its
    folders; a pattern (`*`, `?`, `[...]`, `**` for any folders) for the pictures that fit it, unless a file
    has that very name. results: folders of results, in which no pictures are looked for. Links are followed
    where they are named; those that are found must not lead out of the folder. OnebranchError for a folder or
    a pattern without pictures.
    """
    pictures: dict[Path, Source] = {}
    left_out: list[str] = []
    apart = {real(folder) for folder in results}
    for path in paths:
        for source in _sources(os.fspath(path), recursive, apart, left_out):
            pictures.setdefault(source.path, source)
    if not pictures:
        raise OnebranchError("there is no picture to enhance; name at least one")
    return Sources(tuple(pictures.values()), tuple(left_out))


def _sources(text: str, recursive: bool, apart: set[Path], left_out: list[str]) -> list[Source]:
    if not text:
        raise OnebranchError("a picture's name is empty; name a file, a folder or a pattern")
    path = Path(text)
    if path.is_dir():
        found = _found(path, None if recursive else 1, apart, left_out)
        if not found:
            raise none_in(path, recursive)
        return found
    if MAGIC.intersection(text) and not os.path.lexists(text):
        return _fitting(path, recursive, apart, left_out)
    return [Source(path)]


def _fitting(pattern: Path, recursive: bool, apart: set[Path], left_out: list[str]) -> list[Source]:
    """The pictures whose names fit."""
    parts = pattern.parts
    fixed = next(index for index, part in enumerate(parts) if MAGIC.intersection(part))
    root, rest = Path(*parts[:fixed]), parts[fixed:]
    depth = None if "**" in rest else len(rest)
    found = _found(root, depth, apart, left_out) if root.is_dir() else []
    fitting = [s for s in found if _fits(s.path.relative_to(root).parts, rest)]
    if not fitting:
        raise OnebranchError(f"there is no picture '{pattern}', and none that fits this pattern")
    return fitting if recursive else [Source(source.path, found=True) for source in fitting]


def _fits(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether a path fits, part by part; `**` is any number of parts."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_fits(parts[skipped:], pattern[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatch(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


def _found(folder: Path, depth: int | None, apart: set[Path], left_out: list[str]) -> list[Source]:
    """The pictures in a folder, sorted, but those behind links that lead out, and those among the results."""
    root = real(folder)
    inside = [place for place in apart if place != root and place.is_relative_to(root)]
    pictures, leading_out = [], []
    for path in files_below(folder, depth):
        if inside and any(real(path.parent).is_relative_to(place) for place in inside):
            continue
        if path.is_symlink() and not real(path).is_relative_to(root):
            leading_out += [path] if path.is_dir() or is_picture(path) else []
        elif is_picture(path) and path.is_file():
            pictures.append(Source(path, path.parent.relative_to(folder), found=True))
    left_out += list(_told(folder, sorted(leading_out)))
    return sorted(pictures, key=lambda source: source.path)


def _told(folder: Path, links: Sequence[Path]) -> Iterator[str]:
    if len(links) == 1:
        yield f"'{links[0]}' is a link that leads out of '{folder}': left out"
    elif links:
        yield f"{len(links)} links lead out of '{folder}': left out, '{links[0]}' is the first"
