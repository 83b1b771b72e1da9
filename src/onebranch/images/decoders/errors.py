"""What decoders raise, as one line that names the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onebranch.errors import OnebranchError
from onebranch.images.decoders import png_chunks
from onebranch.images.libvips import pyvips, reason


@contextmanager
def decoder_errors(path: Path, name: str) -> Iterator[None]:
    """Whatever the decoders raise, as one line."""
    try:
        yield
    except OnebranchError:
        raise
    except pyvips.Error as error:
        raise damaged(path, name, _fallback_reason(path, name, error) or reason(error)) from None
    except MemoryError:
        raise OnebranchError(f"cannot read '{path}': there is not enough memory for it") from None
    except Exception as error:  # Pillow raises what its parsers happen to meet
        raise damaged(path, name, str(error)) from None


def _fallback_reason(path: Path, name: str, error: Exception) -> str:
    """The reason, where libvips gives none, or none that can be understood; "" elsewhere."""
    if name == "PNG" and not reason(error):
        return png_chunks.problem(path)
    if "samples_per_pixel not a whole number of bytes" in str(error):
        return "it has samples of other than 1, 8, 16 or 32 bits"
    if not reason(error) and "bad seek" in str(error):
        return "it points beyond its end"
    return ""


def damaged(path: Path, name: str, why: str) -> OnebranchError:
    """What to raise for a file of a format that cannot be read further."""
    told = f": {' '.join(why.split())[:200]}" if why.strip() else ""
    return OnebranchError(f"cannot read '{path}': damaged or unsupported {name} file{told}")
