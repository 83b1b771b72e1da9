"""Jobs: the file to which the result of every picture is written, determined and checked before any work."""

import os
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from onebranch.atomic_files import temporary_path
from onebranch.enhancer.inputs import InputPicture, LocalFile, real_path
from onebranch.enhancer.names import Naming, Values, too_long
from onebranch.enhancer.other_files import PICTURES_ONLY, OtherFiles
from onebranch.errors import OnebranchError
from onebranch.images.formats import FORMAT_BY_SUFFIX
from onebranch.images.probe import probe

DEFAULT_NAMING = Naming()

Measure = Callable[[Path], Values]
"""Returns the template fields that depend on a picture's size (`names.MEASURED`).

It raises OnebranchError if the picture cannot be read.
"""


@dataclass(frozen=True)
class Job:
    """A picture, and the files of its result and comparison. problem: why it cannot be enhanced, or ""."""

    source: Path
    target: Path
    comparison: Path | None = None
    problem: str = ""


@dataclass(frozen=True)
class Shard:
    """Part `index` of the `count` parts of a batch, counted from 1. OnebranchError if it does not exist."""

    index: int
    count: int

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 1 <= self.index <= self.count:
            raise OnebranchError(f"there is no part {self.index}/{self.count}; the first of four is 1/4")

    def contains(self, name: str) -> bool:
        """True if the result with that name, relative to the output folder, belongs to this part.

        >>> [sum(Shard(part, 3).contains(str(n)) for n in range(999)) for part in (1, 2, 3)]
        [325, 336, 338]
        """
        content = unicodedata.normalize("NFC", name).encode("utf-8", "surrogateescape")
        return zlib.crc32(content) % self.count == self.index - 1


def parse_shard(text: str) -> Shard:
    """The shard that a text such as "2/4" specifies; raises OnebranchError for any other text."""
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and len(text) < 20):
        raise OnebranchError(f"'{text}' is not a shard of a batch; write it like 1/4")
    return Shard(int(index), int(count))


def is_one_file(
    inputs: Sequence[str], out: str | os.PathLike[str], is_folder: Callable[[str], bool] = os.path.isdir
) -> bool:
    """True if `out` is the file of a single result: there is one input file, and `out` has a suffix."""
    one = len(inputs) == 1 and not is_folder(inputs[0])
    return one and bool(Path(out).suffix) and not means_a_folder(out)


def means_a_folder(path: str | os.PathLike[str]) -> bool:
    """True if the path is a folder, or ends with a slash."""
    return os.fspath(path).endswith(("/", os.sep)) or Path(path).is_dir()


def check_folder(folder: str | os.PathLike[str]) -> None:
    """Raise OnebranchError if the path cannot be a folder for several results."""
    path = Path(folder)
    if not os.fspath(folder):
        raise OnebranchError("the name of the output folder is empty")
    if path.suffix.lower() in FORMAT_BY_SUFFIX and not means_a_folder(folder):
        raise OnebranchError(
            f"'{path}' names a picture; name a folder for several pictures, and with --name, --format,"
            " --resume or --shard"
        )
    existing = next((p for p in (path, *path.parents) if os.path.lexists(p)), Path())
    if not existing.is_dir():
        raise OnebranchError(f"cannot create the folder '{path}': '{existing}' is not a folder")


def jobs_for(
    sources: Sequence[InputPicture],
    folder: Path,
    naming: Naming = DEFAULT_NAMING,
    measure: Measure | None = None,
    other: OtherFiles = PICTURES_ONLY,
    local_file: LocalFile = nullcontext,
) -> list[Job]:
    """The jobs for results in an output folder, in which the subfolders of the input are mirrored.

    Discovered pictures that are themselves results of other pictures are left out. Raises OnebranchError if
    two pictures would have the same result (ignoring case). An error that concerns only one picture is stored
    as the `problem` of its job. other: kinds of files besides pictures. local_file: gives the content of a
    GIF, whose result is another format unless it is an animation.

    >>> pictures = [InputPicture(Path("a/one.png")), InputPicture(Path("b/two.jp2"))]
    >>> jobs_for(pictures, Path("big"))[1].target.as_posix()
    'big/two.png'
    """
    jobs = [
        _job(source, index, folder, naming, measure, other, local_file)
        for index, source in enumerate(sources, 1)
    ]
    jobs = _separate_unicode_forms(jobs)
    check_unique_targets((job.source, job.target) for job in jobs if not job.problem)
    return _without_results_as_sources(sources, jobs)


def _without_results_as_sources(sources: Sequence[InputPicture], jobs: Sequence[Job]) -> list[Job]:
    """The jobs without discovered pictures that are themselves the result of another job.

    A job whose result would replace a picture that the user named gets a `problem`. Example: if results are
    named {stem}_x2{suffix} and go into the folder `in`, in/a_x2.png is the result of in/a.png and is left
    out.
    """
    source_paths = [real_path(source.path) for source in sources]
    target_paths = [real_path(job.target) for job in jobs]
    source_at = dict(zip(source_paths, sources, strict=True))
    results = {target for path, target in zip(source_paths, target_paths, strict=True) if path != target}
    kept = []
    for source, path, target, job in zip(sources, source_paths, target_paths, jobs, strict=True):
        if source.discovered and path in results:
            continue
        replaced = source_at.get(target)
        if replaced is not None and target != path and not replaced.discovered:
            job = replace(job, problem=f"'{job.target}' is itself one of the pictures; choose another name")
        kept.append(job)
    return kept


def _job(
    source: InputPicture,
    index: int,
    folder: Path,
    naming: Naming,
    measure: Measure | None,
    other: OtherFiles,
    local_file: LocalFile,
) -> Job:
    target_folder = folder / source.below
    try:
        name = _name(source.path, index, naming, measure, other, local_file)
    except OnebranchError as error:
        return Job(source.path, target_folder / source.path.name, problem=str(error))
    if too_long(name):
        problem = (
            f"the result of '{source.path}' would have a name of more than 255 bytes;"
            " choose a shorter one (--name)"
        )
        return Job(source.path, target_folder / name, problem=problem)
    return Job(source.path, target_folder / name)


def _name(
    source: Path,
    index: int,
    naming: Naming,
    measure: Measure | None,
    other: OtherFiles,
    local_file: LocalFile,
) -> str:
    is_gif = naming.file_format is None and source.suffix.lower() == ".gif"
    animated = is_gif and _is_animation(source, local_file)
    values: dict[str, str | int] = {
        "stem": source.stem,
        "suffix": other.result_suffix(source)
        if other.include(source)
        else naming.suffix_of(source, animated),
        "index": index,
        "parent": source.absolute().parent.name,
    }
    if measure is not None:
        values |= measure(source)
    return naming.name(values)


def _is_animation(source: Path, local_file: LocalFile) -> bool:
    """True if the file is an animation. A file that cannot be read gives False; its job fails later."""
    try:
        with local_file(source) as file:
            return probe(file).frames > 1
    except OnebranchError:
        return False


def check_unique_targets(pairs: Iterable[tuple[Path, Path]]) -> None:
    """Raise OnebranchError if two pictures would have the same result. pairs: (source, target)."""
    earlier: dict[tuple[Path, str], list[tuple[Path, Path]]] = {}
    for source, target in pairs:
        # many file systems do not distinguish names that differ only in case or in the encoding of accents
        key = target.parent, unicodedata.normalize("NFC", target.name).casefold()
        alike = earlier.setdefault(key, [])
        for other_source, other_target in alike:
            if not _same_but_for_unicode(other_target, target):
                raise OnebranchError(
                    f"'{other_source}' and '{source}' would both become '{target}';"
                    " enhance them into different folders, or give them different names (--name)"
                )
        alike.append((source, target))


def _same_but_for_unicode(one: Path, other: Path) -> bool:
    """True if two names differ only in their Unicode normalization (composed or decomposed accents)."""
    names = [unicodedata.normalize("NFC", path.name) for path in (one, other)]
    return one != other and names[0] == names[1]


def _separate_unicode_forms(jobs: Sequence[Job]) -> list[Job]:
    """The jobs, with a `problem` if their result's name differs from another only in Unicode normalization.

    On file systems where such names are different files, the jobs are unchanged.
    """
    first: dict[Path, Job] = {}
    separated = []
    for job in jobs:
        other = first.setdefault(job.target.with_name(unicodedata.normalize("NFC", job.target.name)), job)
        if _same_but_for_unicode(job.target, other.target) and not _keeps_unicode_forms(job.target.parent):
            problem = (
                f"{str(job.source)!a} and {str(other.source)!a} differ only in their Unicode normalization,"
                " and the results would have the same name; give them different names (--name, such as"
                " {index}_{stem}{suffix})"
            )
            job = replace(job, problem=problem)
        separated.append(job)
    return separated


def _keeps_unicode_forms(folder: Path) -> bool:
    """True if names that differ only in Unicode normalization are different files in that folder."""
    existing = next((path for path in (folder, *folder.parents) if path.is_dir()), Path())
    try:
        with temporary_path(existing, "\N{LATIN SMALL LETTER E WITH ACUTE}") as composed:
            composed.touch(exist_ok=False)
            return not composed.with_name(unicodedata.normalize("NFD", composed.name)).exists()
    except OSError:
        return False


def check_comparisons(jobs: Sequence[Job], sources: Iterable[InputPicture]) -> None:
    """Raise OnebranchError if a comparison sheet would replace a picture or a result."""
    kinds = {real_path(job.target): "a result" for job in jobs}
    kinds |= {real_path(source.path): "one of the pictures" for source in sources}
    for job in jobs:
        kind = None if job.comparison is None else kinds.get(real_path(job.comparison))
        if kind is not None:
            raise OnebranchError(
                f"the comparison '{job.comparison}' would replace {kind}; choose another name (--compare)"
            )
