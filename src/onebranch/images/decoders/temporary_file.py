"""Temporary files for what does not come in order: they have no name, so that nothing is ever left behind.

They are in the folder that TMPDIR names, else in the system's; where that is kept in memory, TMPDIR helps.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.images.rows import Layout

HELD = 64 << 20
"""Bytes of samples up to which a picture is held in memory rather than in a temporary file."""


def size_of(layout: Layout) -> int:
    """Bytes of all samples."""
    return layout.height * layout.width * layout.bands * np.dtype(layout.depth).itemsize


def anonymous_temp_file(path: Path) -> IO[bytes]:
    """A temporary file for the picture in `path`, gone when it is closed or the process ends in any way."""
    import tempfile  # takes a while, for what few pictures need

    with temporary_file_errors(path):
        return tempfile.TemporaryFile()


@contextmanager
def temporary_file_errors(path: Path) -> Iterator[None]:
    """What goes wrong with a temporary file, as one line about the picture in `path`."""
    try:
        yield
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise OnebranchError(
            f"cannot read '{path}': it needs a temporary file, and {_folder()} gives none: {why};"
            " set TMPDIR to a folder with room"
        ) from None


def _folder() -> str:
    import tempfile

    try:
        return f"'{tempfile.gettempdir()}'"
    except OSError:
        return "the system"
