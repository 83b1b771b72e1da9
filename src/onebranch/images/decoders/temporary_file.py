"""Temporary files for samples that are needed in another order than that in which they are decoded.

The files have no name, so they disappear even if the process is killed. They are created in the folder that
TMPDIR names, otherwise in the system's temporary folder. If that is a memory file system (tmpfs), set TMPDIR
to a folder on a disk.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.images.rows import Layout

MAX_IN_MEMORY_BYTES = 64 << 20
"""Pictures with more bytes of samples are stored in a temporary file, others in memory."""


def sample_bytes(layout: Layout) -> int:
    """Number of bytes of all samples of a picture."""
    return layout.height * layout.width * layout.bands * np.dtype(layout.depth).itemsize


def anonymous_temp_file(path: Path) -> IO[bytes]:
    """A temporary file without a name, which is deleted when it is closed. path: the picture, for errors."""
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
            f"cannot read '{path}': it needs a temporary file, which cannot be created in {_folder()}:"
            f" {why}; set TMPDIR to a folder with free space"
        ) from None


def _folder() -> str:
    import tempfile

    try:
        return f"'{tempfile.gettempdir()}'"
    except OSError:
        return "any temporary folder"
