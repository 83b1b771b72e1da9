"""Files of this machine that stand for files at URLs while a picture is enhanced."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from onebranch.cluster.urls import Info, RemoteFile, is_url, state_of_url
from onebranch.enhancer.batch import Failed, Outcome
from onebranch.enhancer.jobs import Job
from onebranch.enhancer.manifest import FileState, state_of
from onebranch.errors import OnebranchError, printable


@dataclass
class StagedFiles:
    """A job whose files are all on this machine.

    urls: the URL of each file that stands for one. existing: those whose URL has a file already. source_info:
    what the store says of the picture.
    """

    job: Job
    urls: dict[Path, str] = field(default_factory=dict)
    existing: set[Path] = field(default_factory=set)
    source_info: Info | None = None

    def publish(self, overwrite: bool) -> None:
        """Upload what was written; an existing result that was only compared stays."""
        for path in (self.job.target, self.job.comparison):
            if path in self.urls and path not in self.existing:
                RemoteFile(self.urls[path]).publish(path, overwrite)

    def states(self, before: FileState) -> tuple[dict[str, Any], dict[str, Any]]:
        """The states of picture and result for the manifest. before: of the picture's file."""
        picture, result = vars(before), vars(state_of(self.job.target))
        if self.source_info is not None:
            picture = state_of_url(self.source_info, before.digest)
        if self.job.target in self.urls:
            url = self.urls[self.job.target]
            info = RemoteFile(url).info()
            if info is None:
                raise OnebranchError(f"'{url}' has disappeared after it was written")
            result = state_of_url(info, result["digest"])
        return picture, result

    def with_urls(self, outcome: Outcome, job: Job) -> Outcome:
        """The outcome of `self.job` as that of `job`, with URLs in its message."""
        if isinstance(outcome, Failed):
            reason = outcome.reason
            for path, url in self.urls.items():
                reason = reason.replace(str(path), printable(url))
            return replace(outcome, job=job, reason=reason)
        return replace(outcome, job=job)


@contextmanager
def staged(
    job: Job, source: str, target: str, comparison: str | None, overwrite: bool, compares: bool
) -> Iterator[StagedFiles]:
    """A context with the files of a job on this machine. Results are written to files that `publish` uploads.

    source, target, comparison: paths or URLs. compares: an existing result is fetched, to be compared;
    otherwise an empty file stands for the result, and is refused like any existing file.
    """
    if not any(map(is_url, (source, target, comparison or ""))):
        yield StagedFiles(job)
        return
    with TemporaryDirectory(prefix="onebranch-") as folder:
        files = StagedFiles(job)
        if is_url(source):
            path = _stand_in(files, Path(folder), "picture", source)
            files.source_info = RemoteFile(source).fetch(path)
            files.job = replace(files.job, source=path)
        if is_url(target):
            path = _stand_in(files, Path(folder), "result", target)
            files.job = replace(files.job, target=path)
            if not overwrite:
                _stage_existing(files, path, compares)
        if comparison is not None and is_url(comparison):
            path = _stand_in(files, Path(folder), "comparison", comparison)
            files.job = replace(files.job, comparison=path)
            if not overwrite:
                _stage_existing(files, path, False)
        yield files


def _stand_in(files: StagedFiles, folder: Path, name: str, url: str) -> Path:
    """The path of the file that stands for a URL; it keeps the suffix, which selects a format."""
    suffix = Path(url.partition("?")[0]).suffix
    path = folder / name / f"{name}{suffix}"
    path.parent.mkdir()
    files.urls[path] = url
    return path


def _stage_existing(files: StagedFiles, path: Path, compares: bool) -> None:
    """If there is a file at the URL already, fetch it or create an empty file."""
    remote = RemoteFile(files.urls[path])
    if remote.info() is None:
        return
    files.existing.add(path)
    if compares:
        remote.fetch(path)
    else:
        path.touch()
