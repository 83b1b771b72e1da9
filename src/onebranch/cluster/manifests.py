"""The manifest of a batch on many machines, which its driver alone writes.

In a folder it is the file that one machine writes, so that a run can be continued by either. At a URL, where
nothing can be appended, it is a series of parts.
"""

import os
import time
from pathlib import Path
from typing import Protocol

from onebranch.cluster.urls import RemoteFile, filesystem, joined, one_line_errors
from onebranch.enhancer.jobs import Shard
from onebranch.enhancer.manifest import Manifest, ManifestRecord, Records, as_lines, parse_records

RECORDS_PER_PART = 1000
"""Number of records after which a part is written."""

SECONDS_PER_PART = 10.0
"""Time after which a part is written; a run that is killed repeats and compares at most this much."""


class EarlierRecords(Protocol):
    """Where a batch finds its records."""

    def records_of(self, name: str) -> list[ManifestRecord]:
        """The earlier records of the result with that name, relative to the output folder."""
        ...


class BatchManifest(EarlierRecords, Protocol):
    """Where a batch finds and writes its records."""

    def append(self, records: list[ManifestRecord]) -> None:
        """Write records."""
        ...

    def close(self) -> None:
        """Write what is left, and free the manifest."""
        ...


class FolderRecords:
    """The records in a folder of this machine; options: the fingerprint of the run."""

    def __init__(self, folder: Path, options: str) -> None:
        self._folder, self._records = folder, Records(folder, options)

    def records_of(self, name: str) -> list[ManifestRecord]:
        """The earlier records of a result."""
        return self._records.of(self._folder / name)


class FolderManifest:
    """The manifest in a folder of this machine; arguments and errors as `Manifest`."""

    def __init__(self, folder: Path, options: str, shard: Shard | None, only: str) -> None:
        self._folder, self._manifest = folder, Manifest(folder, options, shard, only)

    def records_of(self, name: str) -> list[ManifestRecord]:
        """The earlier records of a result."""
        return self._manifest.of(self._folder / name)

    def append(self, records: list[ManifestRecord]) -> None:
        """Append the records, and flush them to the disk."""
        self._manifest.append(*records)

    def close(self) -> None:
        """Close the file."""
        self._manifest.__exit__()


class UrlManifest:
    """The manifest at a URL: every run adds parts `onebranch-RUN-NUMBER.jsonl`, and reads those of all runs.

    It needs no lock: two runs write parts of their own, and the results of both are equal.
    """

    def __init__(self, folder: str) -> None:
        self._folder, self._run = folder, f"{time.time_ns():x}-{os.urandom(4).hex()}"
        self._waiting: list[ManifestRecord] = []
        self._parts, self._written = 0, time.monotonic()
        self._records: dict[str, list[ManifestRecord]] = {}
        for content in _contents(folder):
            for record in parse_records(content):
                self._records.setdefault(record["target"], []).append(record)

    def records_of(self, name: str) -> list[ManifestRecord]:
        """The earlier records of a result."""
        return self._records.get(name, [])

    def append(self, records: list[ManifestRecord]) -> None:
        """Keep the records, and write a part if it is large or old enough."""
        self._waiting += records
        age = time.monotonic() - self._written
        if len(self._waiting) >= RECORDS_PER_PART or age > SECONDS_PER_PART:
            self._write()

    def close(self) -> None:
        """Write the last part."""
        self._write()

    def _write(self) -> None:
        if self._waiting:
            self._parts += 1
            name = f"onebranch-{self._run}-{self._parts:06}.jsonl"
            RemoteFile(joined(self._folder, name)).write(as_lines(self._waiting))
            self._waiting.clear()
        self._written = time.monotonic()


def _contents(folder: str) -> list[bytes]:
    """The contents of all parts, the oldest first."""
    with one_line_errors(folder, "read"):
        system, path = filesystem(folder)
        parts = sorted(system.glob(f"{path.rstrip('/')}/onebranch*.jsonl"))
        contents: dict[str, bytes] = system.cat(parts) if parts else {}
    return [contents[part] for part in parts] if isinstance(contents, dict) else [contents]
