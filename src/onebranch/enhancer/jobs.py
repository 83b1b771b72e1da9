"""Where the result of every picture goes, known and checked before any work."""

import os
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from onebranch.enhancer.inputs import Source, real
from onebranch.enhancer.names import Naming, Values, too_long
from onebranch.errors import OnebranchError
from onebranch.images.formats import BY_SUFFIX
from onebranch.images.reading import frames_of

AS_PICTURES = Naming()

Measure = Callable[[Path], Values]
"""The measured fields of a picture's result (`names.MEASURED`); OnebranchError if it cannot be read."""


@dataclass(frozen=True)
class Job:
    """One picture, where its result goes, where its comparison goes; or the problem that there is with it."""

    source: Path
    target: Path
    comparison: Path | None = None
    problem: str = ""


@dataclass(frozen=True)
class Shard:
    """One of `count` parts of a batch, counted from 1."""

    index: int
    count: int

    def __post_init__(self) -> None:
        """Check that there is such a part."""
        if not 1 <= self.index <= self.count:
            raise OnebranchError(f"there is no part {self.index}/{self.count}; the first of four is 1/4")

    def holds(self, name: str) -> bool:
        """Whether the result of that name, below the folder of results, is made by this part.

        >>> [sum(Shard(part, 3).holds(str(n)) for n in range(999)) for part in (1, 2, 3)]
        [325, 336, 338]
        """
        content = unicodedata.normalize("NFC", name).encode("utf-8", "surrogateescape")
        return zlib.crc32(content) % self.count == self.index - 1


def shard_of(text: str) -> Shard:
    """The part that "2/4" names; OnebranchError for what is no such text."""
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and len(text) < 20):
        raise OnebranchError(f"'{text}' is no part of a batch; write it like 1/4")
    return Shard(int(index), int(count))


def is_one_file(given: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> bool:
    """Whether `out` is the name of the one result: one file is given, and `out` has a suffix."""
    one = len(given) == 1 and not Path(given[0]).is_dir()
    return one and bool(Path(out).suffix) and not means_a_folder(out)


def means_a_folder(place: str | os.PathLike[str]) -> bool:
    """Whether it is a folder, or its name ends as only a folder's does."""
    return os.fspath(place).endswith(("/", os.sep)) or Path(place).is_dir()


def check_folder(place: str | os.PathLike[str]) -> None:
    """OnebranchError if it cannot be the folder of several results."""
    path = Path(place)
    if not os.fspath(place):
        raise OnebranchError("the name of the results' folder is empty")
    if path.suffix.lower() in BY_SUFFIX and not means_a_folder(place):
        raise OnebranchError(
            f"'{path}' is one picture's name; name a folder for several pictures, and with --name, --format,"
            " --resume or --shard"
        )
    existing = next((p for p in (path, *path.parents) if os.path.lexists(p)), Path())
    if not existing.is_dir():
        raise OnebranchError(f"cannot make the folder '{path}': '{existing}' is no folder")


def jobs_for(
    sources: Sequence[Source], folder: Path, naming: Naming = AS_PICTURES, measure: Measure | None = None
) -> list[Job]:
    """Where the results go: into a folder, mirroring those in which the pictures were found.

    Pictures that were found and are results of others are left out. OnebranchError where two would have one
    result, upper and lower case being the same; what is wrong with a single picture is its job's problem.

    >>> jobs_for([Source(Path("a/one.png")), Source(Path("b/two.jp2"))], Path("big"))[1].target.as_posix()
    'big/two.png'
    """
    jobs = [_job(source, index, folder, naming, measure) for index, source in enumerate(sources, 1)]
    refuse_shared([(job.source, job.target) for job in jobs if not job.problem])
    places = [real(source.path) for source in sources]
    own = dict(zip(places, sources, strict=True))
    targets = [real(job.target) for job in jobs]
    made = {target for place, target in zip(places, targets, strict=True) if place != target}
    result = []
    for source, place, target, job in zip(sources, places, targets, jobs, strict=True):
        if source.found and place in made:
            continue
        other = own.get(target)
        if other is not None and target != place and not other.found:
            job = replace(job, problem=f"'{job.target}' is itself one of the pictures; choose another name")
        result.append(job)
    return result


def _job(source: Source, index: int, folder: Path, naming: Naming, measure: Measure | None) -> Job:
    place = folder / source.below
    try:
        name = _name(source.path, index, naming, measure)
    except OnebranchError as error:
        return Job(source.path, place / source.path.name, problem=str(error))
    if too_long(name):
        problem = (
            f"the result of '{source.path}' would have a name of more than 255 bytes; give it one (--name)"
        )
        return Job(source.path, place / name, problem=problem)
    return Job(source.path, place / name)


def _name(source: Path, index: int, naming: Naming, measure: Measure | None) -> str:
    moves = naming.form is None and source.suffix.lower() == ".gif" and _moves(source)
    values: dict[str, str | int] = {
        "stem": source.stem,
        "suffix": naming.suffix_of(source, moves),
        "index": index,
        "parent": source.absolute().parent.name,
    }
    if measure is not None:
        values |= measure(source)
    return naming.name(values)


def _moves(source: Path) -> bool:
    """Whether it is an animation; what cannot be read is not, its job will fail."""
    try:
        return frames_of(source) > 1
    except OnebranchError:
        return False


def refuse_shared(places: Iterable[tuple[Path, Path]]) -> None:
    """OnebranchError if two sources would become one file. places: (source, target)."""
    seen: dict[tuple[Path, str], Path] = {}
    for source, target in places:
        # many file systems hold one of two names that differ in case, or in how accents are encoded
        key = target.parent, unicodedata.normalize("NFC", target.name).casefold()
        if key in seen:
            raise OnebranchError(
                f"'{seen[key]}' and '{source}' would both become '{target}';"
                " enhance them into different folders, or name them apart (--name)"
            )
        seen[key] = source


def refuse_lost(jobs: Iterable[Job], sources: Iterable[Source]) -> None:
    """OnebranchError if a comparison would take the place of a picture or of a result."""
    jobs = list(jobs)
    taken = {real(job.target): "a result" for job in jobs}
    taken |= {real(source.path): "one of the pictures" for source in sources}
    for job in jobs:
        what = None if job.comparison is None else taken.get(real(job.comparison))
        if what is not None:
            raise OnebranchError(
                f"the comparison '{job.comparison}' would take the place of {what};"
                " choose another name (--compare)"
            )
