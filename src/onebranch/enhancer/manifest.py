"""What a batch has done, as a file in the folder of its results: one JSON object a line, only ever added to.

A picture is done if its result is as it was recorded, the picture is, and the options give the same.
"""

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from io import FileIO
from pathlib import Path
from typing import Any

from onebranch.enhancer.jobs import Job, Shard
from onebranch.enhancer.options import Options
from onebranch.errors import OnebranchError
from onebranch.images.encoders.encoding import Encoding
from onebranch.model.catalogue import CATALOGUE, find
from onebranch.model.file import Model

WITHOUT_EFFECT = ("model", "threads", "memory", "tile")
"""Options that change no result, and the model, which counts by its content."""

CHUNK = 1 << 20


@dataclass(frozen=True)
class State:
    """A file as it is: bytes, time of the last change in nanoseconds, and digest of the content."""

    size: int
    changed: int
    digest: str


class Records:
    """What a folder of results says of itself, in all its manifests. options: see `fingerprint`."""

    def __init__(self, folder: Path, options: str) -> None:
        self._folder, self._options = folder, options
        self._records: dict[str, list[dict[str, Any]]] = {}
        for record in _records(folder):
            self._records.setdefault(record["target"], []).append(record)

    def has(self, job: Job, overwrite: bool) -> bool:
        """Whether its result is there and valid; False if there is none, or none that is known.

        overwrite: whether one of another picture or of other options may be replaced; else OnebranchError.
        """
        recorded = self._records.get(self._name(job.target), [])
        its = [record for record in recorded if _is(job.target, record["result"])]
        same = [record for record in its if record["options"] == self._options]
        if any(_is(job.source, record["picture"]) for record in same):
            return True
        if overwrite or not its:
            return False
        if not same:
            raise OnebranchError(other_result(job, "it was made with other options"))
        raise OnebranchError(other_result(job, f"it was made before '{job.source}' changed"))

    def _name(self, target: Path) -> str:
        return target.relative_to(self._folder).as_posix()


class Manifest(Records):
    """The records of a folder of results, to which this run adds its own, in its shard's file.

    OnebranchError if the file cannot be written, or another run is writing it. A context manager.
    """

    def __init__(self, folder: Path, options: str, shard: Shard | None = None) -> None:
        super().__init__(folder, options)
        part = f"-{shard.index}-of-{shard.count}" if shard else ""
        self.path = folder / f"onebranch{part}.jsonl"
        try:
            self._file = _opened(self.path)
        except BlockingIOError:
            raise OnebranchError(f"another run is writing '{self.path}'; wait for it, or end it") from None
        except OSError as error:
            raise OnebranchError(f"cannot write '{self.path}': {error.strerror}") from None

    def __enter__(self) -> "Manifest":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, job: Job, picture: State) -> None:
        """Record that it is done. picture: as it was before. OnebranchError if that cannot be written."""
        record = {
            "picture": {"path": _seen_from(self._folder, job.source), **vars(picture)},
            "target": self._name(job.target),
            "result": vars(state_of(job.target)),
            "options": self._options,
        }
        try:
            self._file.write(json.dumps(record).encode() + b"\n")  # in one piece, whoever else is writing
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OnebranchError(f"cannot write '{self.path}': {error.strerror}") from None


def _seen_from(folder: Path, path: Path) -> str:
    try:
        return os.path.relpath(path, folder)
    except ValueError:  # on another drive
        return str(path.absolute())


def other_result(job: Job, why: str) -> str:
    """What to say of a result that is there, and not of this picture and these options."""
    return f"'{job.target}' exists, and {why}; choose another folder or allow overwriting (--overwrite)"


def state_of(path: Path) -> State:
    """A file as it is. OnebranchError if it cannot be read."""
    try:
        found = path.stat()
        return State(found.st_size, found.st_mtime_ns, _digest(path))
    except OSError as error:
        raise OnebranchError(f"cannot read '{path}': {error.strerror}") from None


def fingerprint(options: Options, encoding: Encoding) -> str:
    """What tells results of different options apart, in 32 letters. Models count by their content."""
    kept = {f.name: getattr(options, f.name) for f in fields(options) if f.name not in WITHOUT_EFFECT}
    text = json.dumps([kept, vars(encoding)], sort_keys=True)
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for content in _contents(options.model):
        digest.update(content)
    return digest.hexdigest()


def _contents(model: str | os.PathLike[str] | Model | None) -> Iterator[bytes]:
    """Everything that makes the network what it is."""
    if isinstance(model, Model):
        yield repr(model.spec).encode()
        yield repr(model.quantization).encode()
        yield from (tensor.tobytes() for tensor in model.weights.values())
    elif model is not None:
        yield find(model).read_bytes()
    else:  # the scale chooses among those that ship
        yield from (entry.path.read_bytes() for entry in CATALOGUE.values() if entry.path.exists())


def _records(folder: Path) -> Iterator[dict[str, Any]]:
    """The whole records of all files, the oldest first in each."""
    for path in filter(Path.is_file, sorted(folder.glob("onebranch*.jsonl"))):  # no pipe, no device
        with suppress(OSError):
            for line in path.read_bytes().split(b"\n"):
                with suppress(ValueError, RecursionError):  # one cut off, being written, or not ours
                    record = json.loads(line)
                    if _is_record(record):
                        yield record


def _is_record(record: Any) -> bool:
    if not isinstance(record, dict) or not isinstance(record.get("target"), str):
        return False
    states = [record.get("picture"), record.get("result")]
    return "options" in record and all(
        isinstance(s, dict) and {"size", "changed", "digest"} <= {*s} for s in states
    )


def _is(path: Path, recorded: dict[str, Any]) -> bool:
    """Whether a file is as it was recorded: by time, and if that differs (it was copied), by content."""
    try:
        found = path.stat()
        if found.st_size != recorded["size"]:
            return False
        return bool(found.st_mtime_ns == recorded["changed"] or _digest(path) == recorded["digest"])
    except OSError:
        return False


def _digest(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _opened(path: Path) -> FileIO:
    """The file, to be added to by this process alone. BlockingIOError if another one does."""
    if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
        raise OSError(errno.EINVAL, "it is a link or no file")
    file = FileIO(path, "ab")
    try:
        _lock(file)
        if file.tell() and not path.read_bytes().endswith(b"\n"):
            file.write(b"\n")  # the last record was cut off
    except BaseException:
        file.close()
        raise
    return file


def _lock(file: FileIO) -> None:
    """Keep others from writing it until this process ends. BlockingIOError if somebody else does."""
    try:
        import fcntl
    except ImportError:  # on Windows
        return
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # some network file systems lock nothing
        return
