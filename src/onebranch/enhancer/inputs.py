"""Selection of the pictures to enhance: files, folders, patterns and lists become one list of files."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from onebranch.errors import OnebranchError
from onebranch.images.folders import files_below, is_picture, is_unread_picture, no_pictures_error

WILDCARDS = frozenset("*?[")
"""A name with one of these characters is a pattern, unless a file with exactly that name exists."""


@dataclass(frozen=True)
class InputPicture:
    """A picture file.

    below: its folder, relative to the folder that the user named. discovered: True if it was discovered in a
    folder or by a pattern; False if the user named it.
    """

    path: Path
    below: Path = Path()
    discovered: bool = False


@dataclass(frozen=True)
class InputPictures:
    """Picture files without duplicates, and messages about inputs that were left out."""

    pictures: tuple[InputPicture, ...]
    left_out: tuple[str, ...] = ()


SearchInputs = Callable[[Sequence[str], bool, Sequence[Path], frozenset[str]], InputPictures]
"""A function with the arguments of `sources_of`."""

LocalFile = Callable[[Path], AbstractContextManager[Path]]
"""Returns a context with a file of this machine that has the content of a picture."""


@dataclass(frozen=True)
class InputAccess:
    """How pictures are searched and read before a batch starts; by default they are files of this machine.

    search: returns the pictures of files, folders and patterns; None: `sources_of`. is_folder: True if the
    user named a folder. local_file: gives the content of a picture.
    """

    search: SearchInputs | None = None
    is_folder: Callable[[str], bool] = os.path.isdir
    local_file: LocalFile = nullcontext


LOCAL_FILES = InputAccess()
"""Pictures are files of this machine."""


def real_path(path: Path) -> Path:
    """The path with links resolved. Unlike `Path.resolve`, it raises no error for circular links."""
    return Path(os.path.realpath(path))


def parse_list(content: bytes) -> list[str]:
    """The non-empty paths of a list that is separated by NUL if it contains one, else by newlines.

    >>> parse_list(b"a.png\\nb c.png\\n"), parse_list(b"a.png\\0b\\nc.png\\0")
    (['a.png', 'b c.png'], ['a.png', 'b\\nc.png'])
    """
    content = content.removeprefix(b"\xef\xbb\xbf")
    lines = (
        content.split(b"\0") if b"\0" in content else [line.rstrip(b"\r") for line in content.split(b"\n")]
    )
    return [os.fsdecode(line) for line in lines if line]


def sources_of(
    paths: Iterable[str | os.PathLike[str]],
    recursive: bool = False,
    results: Sequence[Path] = (),
    suffixes: frozenset[str] = frozenset(),
) -> InputPictures:
    """The picture files for the given files, folders and patterns, in their order.

    A named file is included whatever its suffix is. A folder stands for the pictures in it and, if
    `recursive`, in its subfolders. A pattern (`*`, `?`, `[...]`, `**` for any number of folders) stands for
    the pictures that match it. results: output folders, which are not searched. suffixes: suffixes of other
    files that are included like pictures. Named links are followed; discovered links must not lead out of the
    folder. Raises OnebranchError for a folder or a pattern without pictures.
    """
    search = _Search(recursive, frozenset(real_path(folder) for folder in results), suffixes)
    pictures: dict[Path, InputPicture] = {}
    for path in paths:
        for source in search.sources(os.fspath(path)):
            pictures.setdefault(source.path, source)
    if not pictures:
        raise OnebranchError("there is no picture to enhance; name at least one")
    return InputPictures(tuple(pictures.values()), tuple(search.left_out))


@dataclass
class _Search:
    """Searches for pictures.

    excluded: real paths of folders that are not searched. suffixes: suffixes of other files that are included
    like pictures. left_out: messages about inputs that are left out.
    """

    recursive: bool
    excluded: frozenset[Path]
    suffixes: frozenset[str]
    left_out: list[str] = field(default_factory=list)

    def sources(self, text: str) -> list[InputPicture]:
        """The pictures of one file, folder or pattern."""
        if not text:
            raise OnebranchError("a picture's name is empty; name a file, a folder or a pattern")
        path = Path(text)
        if path.is_dir():
            sources = self._in_folder(path, None if self.recursive else 1)
            if not sources:
                raise self._reason() or no_pictures_error(path, self.recursive)
            return sources
        if WILDCARDS.intersection(text) and not os.path.lexists(text):
            return self._matching(path)
        return [InputPicture(path)]

    def _reason(self) -> OnebranchError | None:
        """The error if all inputs were left out; None if none was left out."""
        return OnebranchError(f"no picture can be read; {self.left_out[-1]}") if self.left_out else None

    def _is_taken(self, path: Path) -> bool:
        return is_picture(path) or path.suffix.lower() in self.suffixes

    def _matching(self, pattern: Path) -> list[InputPicture]:
        """The pictures that match a pattern."""
        parts = pattern.parts
        fixed = next(index for index, part in enumerate(parts) if WILDCARDS.intersection(part))
        root, rest = Path(*parts[:fixed]), parts[fixed:]
        depth = None if "**" in rest else len(rest)

        def matches(path: Path) -> bool:
            return _matches(path.relative_to(root).parts, rest)

        matching = self._in_folder(root, depth, matches) if root.is_dir() else []
        if not matching:
            raise self._reason() or OnebranchError(
                f"there is no picture '{pattern}', and none that matches this pattern"
            )
        return (
            matching
            if self.recursive
            else [InputPicture(source.path, discovered=True) for source in matching]
        )

    def _in_folder(
        self, folder: Path, depth: int | None, matches: Callable[[Path], bool] = lambda path: True
    ) -> list[InputPicture]:
        """The pictures in a folder that match, sorted. Links that lead out of the folder are left out."""
        root = real_path(folder)
        outward, inside = _separated(self._paths_below(folder, depth), lambda path: _leads_out(path, root))
        matching = [path for path in inside if matches(path)]
        taken = [path for path in matching if self._is_taken(path)]
        files, others = _separated(taken, Path.is_file)
        self.left_out += _lines_about_links(folder, sorted(outward))
        self.left_out += lines_about_unread(folder, list(filter(is_unread_picture, matching)))
        self.left_out += _lines_about_others(others)
        return [
            InputPicture(path, path.parent.relative_to(folder), discovered=True) for path in sorted(files)
        ]

    def _paths_below(self, folder: Path, depth: int | None) -> list[Path]:
        """The files and links below a folder, except those in excluded folders."""
        root = real_path(folder)
        excluded = [path for path in self.excluded if path != root and path.is_relative_to(root)]
        paths = files_below(folder, depth)
        return [path for path in paths if not (excluded and _is_below(path, excluded))]


def _separated(paths: Sequence[Path], belongs: Callable[[Path], bool]) -> tuple[list[Path], list[Path]]:
    """The paths for which the function returns True, and the other paths."""
    parts: tuple[list[Path], list[Path]] = [], []
    for path in paths:
        parts[not belongs(path)].append(path)
    return parts


def _leads_out(path: Path, root: Path) -> bool:
    """True if the path is a link that leads out of the folder `root`."""
    return path.is_symlink() and not real_path(path).is_relative_to(root)


def _is_below(path: Path, folders: Sequence[Path]) -> bool:
    """True if a file is below one of the folders, which are given by their real paths."""
    parent = real_path(path.parent)
    return any(parent.is_relative_to(folder) for folder in folders)


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """True if the parts of a path match those of a pattern; `**` matches any number of parts."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[skipped:], pattern[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatch(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def lines_about_unread(folder: Path, unread: Sequence[Path]) -> Iterator[str]:
    """One message with the number of pictures in each format that cannot be read.

    >>> list(lines_about_unread(Path("in"), [Path("in/a.heic"), Path("in/b.HEIC"), Path("in/c.jxl")]))
    ["'in': 2 .heic and 1 .jxl left out: these formats are not read; convert them to PNG or TIFF"]
    """
    counts = Counter(path.suffix.lower() for path in unread)
    if counts:
        numbers = " and ".join(f"{count} {suffix}" for suffix, count in sorted(counts.items()))
        formats = "these formats are" if len(counts) > 1 else "this format is"
        yield f"'{folder}': {numbers} left out: {formats} not read; convert them to PNG or TIFF"


def _lines_about_others(paths: Sequence[Path]) -> Iterator[str]:
    """One message for every picture name that is neither a file nor a folder, such as a broken link."""
    for path in sorted(path for path in paths if not path.is_dir()):
        what = "a link to a file that is missing" if path.is_symlink() else "not a file"
        yield f"'{path}' is {what}: left out"


def _lines_about_links(folder: Path, links: Sequence[Path]) -> Iterator[str]:
    links = [link for link in links if link.is_dir() or is_picture(link)]
    if len(links) == 1:
        yield f"'{links[0]}' is a link that leads out of '{folder}': left out"
    elif links:
        yield f"{len(links)} links lead out of '{folder}': left out, '{links[0]}' is the first"
