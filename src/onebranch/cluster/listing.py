"""Pictures below URLs: the search of `enhancer.inputs` for files, extended to URLs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from onebranch.cluster.urls import (
    Info,
    RemoteFile,
    filesystem,
    is_url,
    joined,
    one_line_errors,
    url_of,
)
from onebranch.enhancer.inputs import (
    WILDCARDS,
    InputAccess,
    InputPicture,
    InputPictures,
    lines_about_unread,
    sources_of,
)
from onebranch.errors import OnebranchError
from onebranch.images.folders import is_picture, is_unread_picture, no_pictures_error

HTTP = ("http", "https")
"""Schemes in which a folder is a page with links, and a question mark begins the query."""


class UrlInputs:
    """Searches for pictures by URLs and paths. urls: the URL of every picture that has one, by its path."""

    def __init__(self) -> None:
        self.urls: dict[Path, str] = {}
        self._folders: set[str] = set()

    def access(self) -> InputAccess:
        """How a batch searches and reads its pictures."""
        return InputAccess(self.search, self.is_folder, self.local_file)

    def is_folder(self, text: str) -> bool:
        """True if the user named a folder."""
        return text in self._folders if is_url(text) else Path(text).is_dir()

    def search(
        self, paths: Sequence[str], recursive: bool, results: Sequence[Path], suffixes: frozenset[str]
    ) -> InputPictures:
        """The pictures of files, folders and patterns; the arguments and errors of `sources_of`."""
        pictures: dict[Path, InputPicture] = {}
        left_out: list[str] = []
        for text in paths:
            if is_url(text):
                sources = InputPictures(tuple(self._pictures(text, recursive, results, suffixes, left_out)))
            else:
                sources = sources_of([text], recursive, results, suffixes)
            left_out += sources.left_out
            for source in sources.pictures:
                pictures.setdefault(source.path, source)
        if not pictures:
            raise OnebranchError("there is no picture to enhance; name at least one")
        return InputPictures(tuple(pictures.values()), tuple(left_out))

    @contextmanager
    def local_file(self, path: Path) -> Iterator[Path]:
        """A context with a file of this machine that has the content of a picture."""
        if path not in self.urls:
            yield path
            return
        with TemporaryDirectory(prefix="onebranch-") as folder:
            file = Path(folder, f"picture{path.suffix}")
            RemoteFile(self.urls[path]).fetch(file)
            yield file

    def _pictures(
        self,
        url: str,
        recursive: bool,
        results: Sequence[Path],
        suffixes: frozenset[str],
        left_out: list[str],
    ) -> list[InputPicture]:
        """The pictures of one URL, sorted."""
        is_http = urlsplit(url).scheme in HTTP
        if not is_http and WILDCARDS.intersection(url):
            root, names = matching_files(url)
            if not recursive:
                names = {name: name.rpartition("/")[2] for name in names}
        elif (listed := files_below_url(url, recursive)) is None:
            path = Path(url.partition("?")[0] if is_http else url)
            self.urls[path] = url
            return [InputPicture(path)]
        else:
            self._folders.add(url)
            root, names = url, listed
        return self._taken(url, root, names, recursive, results, suffixes, left_out)

    def _taken(
        self,
        url: str,
        root: str,
        names: dict[str, str],
        recursive: bool,
        results: Sequence[Path],
        suffixes: frozenset[str],
        left_out: list[str],
    ) -> list[InputPicture]:
        """The pictures among the files. names: the file of each name below `root`, to its mirrored name."""
        excluded = [path for path in results if path != Path(root)]
        visible = {name: Path(root, name) for name in sorted(names) if not _is_hidden(name)}
        paths = {name: path for name, path in visible.items() if not _is_below(path, excluded)}
        unread = list(filter(is_unread_picture, paths.values()))
        pictures = []
        for name, path in paths.items():
            if is_picture(path) or path.suffix.lower() in suffixes:
                self.urls[path] = joined(root, name)
                pictures.append(InputPicture(path, Path(names[name]).parent, discovered=True))
        left_out += [line.replace(str(Path(url)), url, 1) for line in lines_about_unread(Path(url), unread)]
        if not pictures:
            raise OnebranchError(url_message(no_pictures_error(Path(url), recursive), url))
        return pictures


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in Path(name).parts)


def _is_below(path: Path, folders: Sequence[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def url_message(error: OnebranchError, url: str) -> str:
    """The message of an error, with a URL in place of the path that stands for it."""
    return str(error).replace(str(Path(url)), url)


def files_below_url(url: str, recursive: bool) -> dict[str, str] | None:
    """The names of the files below a folder, each to itself; None if the URL names one file.

    Raises OnebranchError if there is neither.
    """
    with one_line_errors(url, "read"):
        system, root = filesystem(url)
        if urlsplit(url).scheme in HTTP:
            if not url.endswith("/"):
                return None
        elif system.info(root)["type"] == "file":
            return None
        prefix = root.rstrip("/") + "/"
        files: list[str] = system.find(root, maxdepth=None if recursive else 1)
    names = [path.removeprefix(prefix) for path in files if path.startswith(prefix)]
    return {name: name for name in names if name}


def matching_files(url: str) -> tuple[str, dict[str, str]]:
    """The fixed part of a pattern, and the names of the files below it that match, each to itself."""
    parts = url.split("/")
    fixed = next(index for index, part in enumerate(parts) if WILDCARDS.intersection(part))
    folder = "/".join(parts[:fixed])
    with one_line_errors(url, "read"):
        system, pattern = filesystem(url)
        prefix = filesystem(folder)[1].rstrip("/") + "/"
        infos: dict[str, Info] = system.glob(pattern, detail=True)
    names = [path.removeprefix(prefix) for path, info in infos.items() if info["type"] == "file"]
    if not names:
        raise OnebranchError(f"there is no picture '{url}', and none that matches this pattern")
    return folder, {name: name for name in names}


def absolute(path: Path) -> str:
    """The absolute path of a file, or the URL that the path stands for."""
    url = url_of(path)
    return url if is_url(url) else str(path.absolute())
