"""URLs of pictures and results (s3, gs, az, http and others), by fsspec.

In a `Job`, a URL is a `Path` in which "s3://" has become "s3:/", so that names, subfolders and checks are
those of files. `url_of` and `with_urls` give the URL again.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from onebranch.enhancer.manifest import CHUNK_BYTES, FileState
from onebranch.errors import OnebranchError
from onebranch.extras import require

URL = re.compile(r"([a-z][a-z0-9+.-]+)://")
"""The start of a URL: a scheme of at least two letters (one letter is a drive)."""

COLLAPSED_URL = re.compile(r"\b([a-z][a-z0-9+.-]+):/(?=[^/\s])")
"""The start of a URL as a `Path`, which has one slash."""

READ_ONLY_SCHEMES = ("http", "https", "data", "github")
"""Schemes that are read and not written."""

ATOMIC_SCHEMES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")
"""Schemes of stores in which an object appears when all of it is uploaded; others rename a temporary file."""

VERSION_FIELDS = ("ETag", "etag", "generation", "md5Hash", "content_md5", "checksum")
"""Fields by which stores tell the versions of an object apart."""

TIME_FIELDS = ("LastModified", "last_modified", "mtime", "updated", "modified", "created")
"""Fields with the time of the last change."""

Info = dict[str, Any]
"""What a store says of a file: "name", "size", "type" and fields of its own."""


def is_url(text: str | os.PathLike[str]) -> bool:
    """True for a URL; a file:// URL is a file of this machine (`local_path`).

    >>> is_url("s3://bucket/in"), is_url("in/a.png"), is_url("file:///in/a.png"), is_url("C://a.png")
    (True, False, False, False)
    """
    match = URL.match(os.fspath(text))
    return match is not None and match[1] not in ("file", "local")


def local_path(text: str) -> str:
    """The path in a file:// URL; other texts are unchanged.

    >>> local_path("file:///in/a.png"), local_path("s3://in/a.png")
    ('/in/a.png', 's3://in/a.png')
    """
    return re.sub("^(file|local)://", "", text)


def url_of(path: Path) -> str:
    """The URL that a path of a job stands for; the text of any other path.

    >>> url_of(Path("s3://bucket/in/a.png"))
    's3://bucket/in/a.png'
    """
    return COLLAPSED_URL.sub(r"\1://", str(path), count=1)


def with_urls(text: str, urls: tuple[str, ...]) -> str:
    """A message with URLs in place of the paths that stand for them; urls: those with its hosts and buckets.

    >>> with_urls("'s3:/bucket/in/a.png' is empty", ("s3://bucket/in",))
    "'s3://bucket/in/a.png' is empty"
    """
    for url in urls:
        parts = urlsplit(url)
        text = text.replace(f"{parts.scheme}:/{parts.netloc}", f"{parts.scheme}://{parts.netloc}")
    return text


def joined(folder: str, name: str) -> str:
    """The path or URL of a name in a folder.

    >>> joined("s3://bucket/out/", "a/b.png"), joined("/out", "b.png")
    ('s3://bucket/out/a/b.png', '/out/b.png')
    """
    return f"{folder.rstrip('/')}/{name}"


def check_writable_url(url: str) -> None:
    """Raise OnebranchError if nothing can be written at a URL of that scheme."""
    scheme = urlsplit(url).scheme
    if scheme in READ_ONLY_SCHEMES:
        raise OnebranchError(
            f"cannot write to '{url}': {scheme} is for reading; choose a folder, s3://, gs:// or az://"
        )


@contextmanager
def one_line_errors(url: str, verb: str) -> Iterator[None]:
    """A context that converts the errors of a store to OnebranchError in one line. verb: "read", "write"."""
    try:
        yield
    except OnebranchError:
        raise
    except FileNotFoundError:
        raise OnebranchError(f"cannot {verb} '{url}': there is no such file") from None
    except ImportError as error:
        raise OnebranchError(f"cannot {verb} '{url}': {_first_line(error)}") from None
    except Exception as error:  # every store has exceptions of its own
        raise OnebranchError(f"cannot {verb} '{url}': {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    """The first line of an error's message; the name of the error if it has none."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


@dataclass(frozen=True)
class RemoteFile:
    """A file at a URL. Methods raise OnebranchError, in one line, for every error of the store."""

    url: str

    def info(self) -> Info | None:
        """What the store says of the file; None if there is none."""
        with one_line_errors(self.url, "read"):
            system, path = filesystem(self.url)
            try:
                info: Info = system.info(path)
            except FileNotFoundError:
                return None
            return info

    def fetch(self, path: Path) -> Info:
        """Write the content to a file of this machine, and return what the store says of it."""
        with one_line_errors(self.url, "read"):
            system, remote = filesystem(self.url)
            info: Info = system.info(remote)
            system.get_file(remote, str(path))
        with suppress(OSError):
            if changed := _changed(info):
                os.utime(path, ns=(changed, changed))
        return info

    def read(self) -> bytes:
        """The content."""
        with one_line_errors(self.url, "read"):
            system, remote = filesystem(self.url)
            content: bytes = system.cat_file(remote)
            return content

    def digest(self) -> str:
        """The digest of the content, as in the manifest."""
        digest = hashlib.blake2b(digest_size=16)
        with one_line_errors(self.url, "read"):
            system, remote = filesystem(self.url)
            with system.open(remote, "rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    digest.update(chunk)
        return digest.hexdigest()

    def publish(self, path: Path, overwrite: bool) -> None:
        """Upload a file of this machine; it appears under the URL when all of it is there.

        Without `overwrite`, an existing file is kept: OnebranchError unless it has the same content.
        """
        from onebranch.atomic_files import temporary_name
        from onebranch.enhancer.manifest import state_of

        with one_line_errors(self.url, "write"):
            system, remote = filesystem(self.url)
            try:
                if urlsplit(self.url).scheme in ATOMIC_SCHEMES:
                    system.put_file(str(path), remote, mode="overwrite" if overwrite else "create")
                    return
                if not overwrite and system.exists(remote):
                    raise FileExistsError
                parent = remote.rpartition("/")[0]
                system.makedirs(parent, exist_ok=True)
                temporary = f"{parent}/{temporary_name()}"
                system.put_file(str(path), temporary)
                system.mv(temporary, remote)
                return
            except FileExistsError:
                pass
        if self.digest() != state_of(path).digest:
            raise OnebranchError(
                f"cannot write '{self.url}': it exists; choose another name or allow overwriting"
                " (--overwrite)"
            )

    def write(self, content: bytes) -> None:
        """Write or replace the file; for small files."""
        with one_line_errors(self.url, "write"):
            system, remote = filesystem(self.url)
            system.pipe_file(remote, content)


def filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, without a cache of listings, and the path in it."""
    require("cluster", f"'{url}'", ("fsspec",))
    from fsspec.core import url_to_fs

    system, path = url_to_fs(url, use_listings_cache=False)
    return system, path


def version_of(info: Info) -> str:
    """A text that differs between versions of a file, by its entity tag or time; "" if neither is known."""
    for field in (*VERSION_FIELDS, *TIME_FIELDS):
        if info.get(field):
            return str(info[field]).strip('"')
    return ""


def state_of_url(info: Info, digest: str) -> dict[str, Any]:
    """The state of a file as it is recorded: that of a `FileState`, and the version that the store names."""
    return {**vars(FileState(int(info["size"]), _changed(info), digest)), "version": version_of(info)}


def is_unchanged_url(url: str, recorded: dict[str, Any]) -> bool:
    """True if the file at a URL matches its record: by its version or, if that differs, by its content."""
    file = RemoteFile(url)
    info = file.info()
    if info is None or info.get("size") != recorded["size"]:
        return False
    same_version = bool(recorded.get("version")) and version_of(info) == recorded["version"]
    return same_version or bool(file.digest() == recorded["digest"])


def _changed(info: Info) -> int:
    """The time of the last change, in nanoseconds since the epoch; 0 if it is unknown."""
    for field in TIME_FIELDS:
        value = info.get(field)
        if isinstance(value, datetime):
            return int(value.timestamp()) * 1_000_000_000
        if isinstance(value, (int, float)):
            return int(value * 1e9)
    return 0
