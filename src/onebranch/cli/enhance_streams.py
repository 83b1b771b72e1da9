"""Standard input and output of `onebranch enhance`: `-` as a picture and as the output; and URLs as names.

Standard streams are files in a temporary folder while the picture is enhanced.
"""

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from onebranch.errors import OnebranchError

STANDARD_STREAM = "-"
"""The name that stands for standard input or output."""


@dataclass(frozen=True)
class StreamFiles:
    """The paths and the output with files in place of standard streams; names: what messages call them."""

    paths: list[str]
    out: str
    names: dict[str, str]

    def renamed(self, text: str) -> str:
        """A message with the names of the streams in place of the temporary files."""
        for path, name in self.names.items():
            text = text.replace(path, name)
        return text


def has_scheme(text: str) -> bool:
    """True if a name may be a URL.

    >>> has_scheme("s3://bucket/in"), has_scheme("in/a.png")
    (True, False)
    """
    return "://" in text


def check_streams(paths: Sequence[str], out: str, cluster: str | None) -> None:
    """Raise OnebranchError for standard streams together with a cluster or URLs."""
    if STANDARD_STREAM not in (*paths, out):
        return
    if cluster is not None:
        raise OnebranchError("--cluster enhances files and URLs, not standard input or output (-)")
    if any(map(has_scheme, (*paths, out))):
        raise OnebranchError("URLs cannot be combined with standard input or output (-)")


def renamed_urls(streams: StreamFiles, out: str) -> Callable[[str], str]:
    """What messages are changed by: names of standard streams and of URLs, whose paths have one slash."""
    if not any(map(has_scheme, (*streams.paths, out))):
        return streams.renamed
    from onebranch.cluster.urls import with_urls

    urls = tuple(text for text in (*streams.paths, out) if has_scheme(text))
    return lambda text: with_urls(text, urls)


@contextmanager
def stream_files(paths: Sequence[str], out: str, file_format: str | None) -> Iterator[StreamFiles]:
    """Read standard input into a file if a path is `-`; print the result at the end if the output is `-`.

    file_format: format of the result; None: that of the picture. Raises OnebranchError if standard
    output is a terminal, or if there are several pictures for it.
    """
    if STANDARD_STREAM not in (*paths, out):
        yield StreamFiles(list(paths), out, {})
        return
    if paths.count(STANDARD_STREAM) > 1:
        raise OnebranchError("standard input (-) can be one picture only")
    import tempfile  # imported late: it loads modules that enhancing files does without

    with tempfile.TemporaryDirectory(prefix="onebranch-") as folder:
        names = {str(Path(folder, _stdin_name(out))): "standard input"}
        streams = StreamFiles(list(paths), out, names)
        try:
            streams = _with_files(streams, Path(folder), file_format)
            yield streams
        except OnebranchError as error:
            raise OnebranchError(streams.renamed(str(error))) from None
        if out == STANDARD_STREAM and (result := Path(streams.out)).exists():
            with result.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()


def _stdin_name(out: str) -> str:
    """The name of the file that holds standard input: that of a clip if the result is a clip."""
    from onebranch.video.containers import is_clip

    return "stdin.mkv" if is_clip(Path(out)) else "stdin"


def _with_files(streams: StreamFiles, folder: Path, file_format: str | None) -> StreamFiles:
    """The paths and the output with files in place of `-`; reads standard input."""
    out, names = streams.out, dict(streams.names)
    paths = list(streams.paths)
    if STANDARD_STREAM in paths:
        stdin = folder / _stdin_name(out)
        with stdin.open("xb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        if not stdin.suffix:  # the result keeps the format, as that of a file does
            stdin = stdin.rename(stdin.with_suffix(_suffix_of_content(stdin)))
        names = {str(stdin): "standard input"}
        paths[paths.index(STANDARD_STREAM)] = str(stdin)
    if out == STANDARD_STREAM:
        _check_output(paths)
        out = str(folder / f"result{_suffix(paths[0], file_format)}")
        names[out] = "standard output"
    return StreamFiles(paths, out, names)


def _suffix_of_content(path: Path) -> str:
    """The suffix of a picture's format by its content; "" if it is none that is read."""
    from onebranch.images.formats import format_of_content
    from onebranch.images.probe import HEAD_BYTES

    with path.open("rb") as file:
        file_format = format_of_content(file.read(HEAD_BYTES))
    return file_format.suffixes[0] if file_format is not None else ""


def _check_output(files: Sequence[str]) -> None:
    if len(files) != 1 or Path(files[0]).is_dir():
        raise OnebranchError("standard output (-o -) takes one picture; name a folder for several (-o)")
    if sys.stdout.isatty():
        raise OnebranchError("standard output is a terminal; redirect it, or name a file (-o)")


def _suffix(source: str, file_format: str | None) -> str:
    """The suffix of the result: that of the requested format, else of the picture's format, else of PNG."""
    from onebranch.enhancer.names import Naming
    from onebranch.images.formats import FORMAT_BY_SUFFIX
    from onebranch.images.probe import probe

    if file_format is not None:
        return Naming(file_format=file_format).suffix_of(Path(source), False)
    suffix = probe(source).format.suffixes[0]
    return suffix if suffix in FORMAT_BY_SUFFIX else ".png"
