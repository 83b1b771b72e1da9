"""The check of an output file before the work that makes it."""

from pathlib import Path

from onebranch.atomic_files import already_exists
from onebranch.errors import OnebranchError


def check_output(out: Path, overwrite: bool) -> None:
    """Raise OnebranchError if `out` cannot be written: it exists, or its folder does not."""
    if out.exists() and not overwrite:
        raise OnebranchError(already_exists(out))
    if not out.parent.is_dir():
        raise OnebranchError(f"cannot write '{out}': there is no folder '{out.parent}'; create it first")
