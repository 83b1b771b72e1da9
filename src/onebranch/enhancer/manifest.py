"""The manifest of a batch: a file in the output folder with one JSON object per completed picture.

Lines are only appended. A picture is completed if the picture, its result and the options match its record.
"""

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from io import FileIO
from pathlib import Path
from typing import Any

from onebranch import strict_json
from onebranch.enhancer.jobs import Job, Shard
from onebranch.enhancer.options import Options
from onebranch.errors import OnebranchError
from onebranch.images.encoders.encoding import Encoding
from onebranch.model.catalogue import CATALOGUE, find, load
from onebranch.model.file import Model
from onebranch.runtime.gpu import CPU
from onebranch.runtime.selection import AUTO

WITHOUT_EFFECT = ("model", "threads", "memory", "tile")
"""Options that the fingerprint omits: they do not affect results. (Models are hashed separately.)"""

CHUNK_BYTES = 1 << 20
"""Bytes of a file that are read at a time."""

ManifestRecord = dict[str, Any]
"""One line of a manifest: "picture" and "result" with the fields of `FileState`, "target" and "options"."""

IsUnchanged = Callable[[Path, ManifestRecord], bool]
"""True if a file matches the "picture" or "result" of a record."""


@dataclass(frozen=True)
class FileState:
    """The state of a file: size in bytes, modification time in nanoseconds, and digest of its content."""

    size: int
    changed: int
    digest: str


class Records:
    """The records in all manifests of an output folder. options: the `fingerprint` of this run."""

    def __init__(self, folder: Path, options: str) -> None:
        self._folder, self._options = folder, options
        self._records: dict[str, list[ManifestRecord]] = {}
        for record in _records(folder):
            self._records.setdefault(record["target"], []).append(record)

    def of(self, target: Path) -> list[ManifestRecord]:
        """The records of a result, the oldest first."""
        return self._records.get(self._name(target), [])

    def has(self, job: Job, overwrite: bool) -> bool:
        """True if the result of a job exists and matches its record; False if it is missing or not recorded.

        Raises OnebranchError if the recorded result is of a changed picture or other options, unless it may
        be replaced (`overwrite`).
        """
        return is_recorded(self.of(job.target), job, self._options, overwrite)

    def _name(self, target: Path) -> str:
        return target.relative_to(self._folder).as_posix()


class Manifest(Records):
    """The records of an output folder, to which this run appends. Each shard has its own file.

    only: the name of the only result, if there is one; its record has its own file, so that another run can
    write other results to the folder. It is a context manager. Raises OnebranchError if the file cannot be
    written or another run writes to it.
    """

    def __init__(self, folder: Path, options: str, shard: Shard | None = None, only: str = "") -> None:
        super().__init__(folder, options)
        part = f"-{shard.index}-of-{shard.count}" if shard else f"-{only}" if only else ""
        self.path = folder / f"onebranch{part}.jsonl"
        try:
            self._file = _open_exclusively(self.path)
        except BlockingIOError:
            raise OnebranchError(f"another run is writing '{self.path}'; wait for it, or end it") from None
        except OSError as error:
            raise OnebranchError(f"cannot write '{self.path}': {error.strerror}") from None

    def __enter__(self) -> "Manifest":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, job: Job, picture: FileState) -> None:
        """Record a completed job. picture: the state of its picture before it was enhanced.

        Raises OnebranchError if the record cannot be written.
        """
        self.append(
            {
                "picture": {"path": relative_path(job.source, self._folder), **vars(picture)},
                "target": self._name(job.target),
                "result": vars(state_of(job.target)),
                "options": self._options,
            }
        )

    def append(self, *records: ManifestRecord) -> None:
        """Append records. Raises OnebranchError if they cannot be written."""
        try:
            self._file.write(as_lines(records))  # one write, so that lines of several runs do not mix
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OnebranchError(f"cannot write '{self.path}': {error.strerror}") from None


def as_lines(records: Iterable[ManifestRecord]) -> bytes:
    """The records as lines of a manifest."""
    return b"".join(strict_json.dumps(record).encode() + b"\n" for record in records)


def relative_path(path: Path, folder: Path) -> str:
    """The path of a picture as it is recorded: relative to the folder, if both are on one drive."""
    try:
        return os.path.relpath(path, folder)
    except ValueError:  # on another drive
        return str(path.absolute())


def is_recorded(
    records: Sequence[ManifestRecord],
    job: Job,
    options: str,
    overwrite: bool,
    compare: IsUnchanged | None = None,
) -> bool:
    """True if the result of a job exists and matches one of the records of its name; errors of `Records.has`.

    options: the fingerprint of this run. compare: True if a file matches its record; None: `is_unchanged`.
    """
    unchanged = compare or is_unchanged
    of_result = [record for record in records if unchanged(job.target, record["result"])]
    same_options = [record for record in of_result if record["options"] == options]
    if any(unchanged(job.source, record["picture"]) for record in same_options):
        return True
    if overwrite or not of_result:
        return False
    if not same_options:
        raise OnebranchError(other_result(job, "it was made with other options"))
    raise OnebranchError(other_result(job, f"it was made before '{job.source}' changed"))


def other_result(job: Job, reason: str) -> str:
    """The message about an existing result that belongs to another picture or other options."""
    return f"'{job.target}' exists, and {reason}; choose another folder or allow overwriting (--overwrite)"


def state_of(path: Path) -> FileState:
    """The state of a file. Raises OnebranchError if it cannot be read."""
    try:
        status = path.stat()
        return FileState(status.st_size, status.st_mtime_ns, _digest(path))
    except OSError as error:
        raise OnebranchError(f"cannot read '{path}': {error.strerror}") from None


def fingerprint(options: Options, encoding: Encoding, settings: str = "") -> str:
    """A hash of 32 hexadecimal digits of everything that affects results: options and model contents.

    settings: a text that represents further settings that affect results.
    """
    effective = {f.name: getattr(options, f.name) for f in fields(options) if f.name not in WITHOUT_EFFECT}
    if options.precision == AUTO and not _is_quantized(options.model):
        effective["precision"] = "fp32"  # what "auto" stands for, and what older versions recorded
    if options.device == CPU:
        del effective["device"]  # as older versions recorded the CPU
    text = strict_json.dumps([effective, vars(encoding)], sort_keys=True) + settings
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for content in _contents(options.model):
        digest.update(content)
    return digest.hexdigest()


def _is_quantized(model: str | os.PathLike[str] | Model | None) -> bool:
    """True for a model with a record of quantization; False for other files, ONNX files among them."""
    if isinstance(model, Model):
        return model.quantization is not None
    with suppress(OnebranchError):
        return model is not None and load(model).quantization is not None
    return False


def _contents(model: str | os.PathLike[str] | Model | None) -> Iterator[bytes]:
    """The bytes of the model, which determine what it computes."""
    if isinstance(model, Model):
        yield repr(model.spec).encode()
        yield repr(model.quantization).encode()
        yield from (tensor.tobytes() for tensor in model.weights.values())
    elif model is not None:
        yield find(model).read_bytes()
    else:  # the scale selects one of the shipped models
        yield from (entry.path.read_bytes() for entry in CATALOGUE.values() if entry.path.exists())


def _records(folder: Path) -> Iterator[ManifestRecord]:
    """The complete records of all manifests, the oldest record of each manifest first."""
    for path in filter(
        Path.is_file, sorted(folder.glob("onebranch*.jsonl"))
    ):  # pipes and devices are left out
        with suppress(OSError):
            yield from parse_records(path.read_bytes())


def parse_records(content: bytes) -> Iterator[ManifestRecord]:
    """The complete records in the content of a manifest."""
    for line in content.split(b"\n"):
        with suppress(ValueError, RecursionError):  # incomplete, or written by another program
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


def is_unchanged(path: Path, recorded: ManifestRecord) -> bool:
    """True if a file matches its record: by time or, if that differs (as after copying), by content."""
    try:
        status = path.stat()
        if status.st_size != recorded["size"]:
            return False
        return bool(status.st_mtime_ns == recorded["changed"] or _digest(path) == recorded["digest"])
    except OSError:
        return False


def _digest(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _open_exclusively(path: Path) -> FileIO:
    """The file, opened and locked for appending. Raises BlockingIOError if another process has locked it."""
    if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
        raise OSError(errno.EINVAL, "it is a link or not a regular file")
    file = FileIO(path, "ab")
    try:
        lock_file(file)
        if file.tell() and not path.read_bytes().endswith(b"\n"):
            file.write(b"\n")  # the last record is incomplete
    except BaseException:
        file.close()
        raise
    return file


def lock_file(file: FileIO) -> None:
    """Lock the file until it is closed. Raises BlockingIOError if another process has locked it."""
    try:
        import fcntl
    except ImportError:  # on Windows
        return
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # some network file systems support no locks
        return
