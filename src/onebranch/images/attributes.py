"""File attributes that a result takes over from its source: permissions and, on request, times."""

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FileAttributes:
    """Permissions (nine bits), and the times of last access and modification in nanoseconds or None."""

    permissions: int
    times: tuple[int, int] | None = None

    def apply(self, path: Path) -> None:
        """Set these attributes on a file, as far as its file system supports them."""
        with contextlib.suppress(OSError, NotImplementedError):
            path.chmod(self.permissions)
        if self.times is not None:
            os.utime(path, ns=self.times)


def attributes_of(path: Path, keep_times: bool = False) -> FileAttributes:
    """The attributes of a file; the times only with `keep_times`. Raises OSError if there is no such file."""
    status = path.stat()
    times = (status.st_atime_ns, status.st_mtime_ns) if keep_times else None
    return FileAttributes(stat.S_IMODE(status.st_mode) & 0o777, times)
