"""Temporary files for samples that are not needed in the order in which they are decoded.

The files have no name, so that nothing is left behind however the process ends. They are created in the
folder that TMPDIR names, otherwise in the system's temporary folder. If that folder is kept in memory, set
TMPDIR to a folder on a disk.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.images.rows import Layout

MAX_IN_MEMORY_BYTES = 64 << 20
"""Pictures with at most this many bytes of samples are held in memory, not in a temporary file."""


def sample_bytes(layout: Layout) -> int:
    """Bytes of all samples of a picture."""
    return layout.height * layout.width * layout.bands * np.dtype(layout.depth).itemsize


def anonymous_temp_file(path: Path) -> IO[bytes]:
    """A temporary file without a name, removed when it is closed. path: the picture, named in errors."""
    import tempfile  # imported late: few pictures need it

    with temporary_file_errors(path):
        return tempfile.TemporaryFile()


@contextmanager
def temporary_file_errors(path: Path) -> Iterator[None]:
    """Convert an OSError of the temporary file to an OnebranchError about the picture `path`."""
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
