"""Whatever decoders raise becomes an OnebranchError of one line that names the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onebranch.errors import OnebranchError
from onebranch.images.containers import png
from onebranch.images.libvips import MAX_REASON_CHARACTERS, pyvips, reason


@contextmanager
def decoder_errors(path: Path, name: str) -> Iterator[None]:
    """Raise what happens inside as OnebranchError. name: of the file's format, for the message."""
    try:
        yield
    except OnebranchError:
        raise
    except pyvips.Error as error:
        raise damaged_file(path, name, _fallback_reason(path, name, error) or reason(error)) from None
    except MemoryError:
        raise OnebranchError(f"cannot read '{path}': there is not enough memory for it") from None
    except Exception as error:  # Pillow raises whatever its parsers happen to meet
        raise damaged_file(path, name, str(error)) from None


def _fallback_reason(path: Path, name: str, error: Exception) -> str:
    """A reason in place of libvips' own where that is empty or hard to understand; "" elsewhere."""
    if name == "PNG" and not reason(error):
        return png.diagnose(path)
    if "samples_per_pixel not a whole number of bytes" in str(error):
        return "it has samples of other than 1, 8, 16 or 32 bits"
    if not reason(error) and "bad seek" in str(error):
        return "it points beyond its end"
    return ""


def damaged_file(path: Path, name: str, why: str) -> OnebranchError:
    """The error of a file that cannot be decoded (any further). why: a reason, which may be empty."""
    detail = f": {' '.join(why.split())[:MAX_REASON_CHARACTERS]}" if why.strip() else ""
    return OnebranchError(f"cannot read '{path}': damaged or unsupported {name} file{detail}")
