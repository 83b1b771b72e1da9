"""Conversion of all exceptions of decoders into OnebranchError, with one line that names the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onebranch.errors import OnebranchError
from onebranch.images.containers import png
from onebranch.images.libvips import MAX_REASON_CHARACTERS, pyvips, reason


@contextmanager
def decoder_errors(path: Path, name: str) -> Iterator[None]:
    """A context that converts every exception to OnebranchError. name: the file's format, for messages."""
    try:
        yield
    except OnebranchError:
        raise
    except pyvips.Error as error:
        raise damaged_file(path, name, _fallback_reason(path, name, error) or reason(error)) from None
    except MemoryError:
        raise OnebranchError(f"cannot read '{path}': there is not enough memory for it") from None
    except Exception as error:  # Pillow's parsers raise many types
        raise damaged_file(path, name, str(error)) from None


def _fallback_reason(path: Path, name: str, error: Exception) -> str:
    """A reason that replaces libvips' message where that is empty or hard to understand; otherwise ""."""
    if name == "PNG" and not reason(error):
        return png.diagnose(path)
    if "samples_per_pixel not a whole number of bytes" in str(error):
        return "it has samples of other than 1, 8, 16 or 32 bits"
    if not reason(error) and "bad seek" in str(error):
        return "it points beyond its end"
    return ""


def damaged_file(path: Path, name: str, why: str) -> OnebranchError:
    """The error for a file that cannot be decoded, or not to its end. why: the reason; "" if unknown."""
    detail = f": {' '.join(why.split())[:MAX_REASON_CHARACTERS]}" if why.strip() else ""
    return OnebranchError(f"cannot read '{path}': damaged or unsupported {name} file{detail}")
