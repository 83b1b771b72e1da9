"""Writing pictures whole or not at all, and finding them in folders."""

import contextlib
import os
from pathlib import Path

from onebranch.errors import OnebranchError
from onebranch.images.formats import BY_SUFFIX, format_of_name
from onebranch.images.picture import Picture


def write(
    picture: Picture,
    path: Path | str,
    *,
    quality: int | None = None,
    lossless: bool = False,
    overwrite: bool = False,
) -> None:
    """Write a picture in the format of the path's suffix, atomically: the whole file appears, or nothing.

    quality: 1 to 100 for JPEG, WebP, AVIF; lossless: for WebP, AVIF. Samples deeper than the format holds
    are rounded. An existing file is an error unless `overwrite`. OnebranchError says what is wrong before
    any work is done (`check_target`), or that the disk is full.
    """
    from onebranch.images.encoding import Encoding, encode

    path = Path(path)
    encoding = Encoding(quality, lossless)
    check_target(path, picture.height, picture.width, alpha=not picture.opaque, overwrite=overwrite)
    write_atomically(path, encode(picture, format_of_name(path), encoding), overwrite=overwrite)


def check_target(
    path: Path, height: int, width: int, *, alpha: bool = False, overwrite: bool = False
) -> None:
    """OnebranchError if a picture of that size cannot be written there: format, limits, folder, name taken.

    alpha: whether the picture is transparent anywhere.
    """
    form = format_of_name(path)
    if max(height, width) > form.side:
        raise OnebranchError(
            f"cannot write '{path}': {form.name} holds at most {form.side} pixels a side,"
            f" not {width}x{height}; choose PNG or TIFF"
        )
    if alpha and not form.alpha:
        raise OnebranchError(
            f"cannot write '{path}': {form.name} has no transparency; choose PNG, WebP or TIFF"
        )
    if path.is_dir():
        raise OnebranchError(f"cannot write '{path}': it is a folder")
    if not overwrite and os.path.lexists(path):
        raise OnebranchError(_exists(path))
    if not path.parent.is_dir():
        raise OnebranchError(f"cannot write '{path}': there is no folder '{path.parent}'")


def write_atomically(path: Path, content: bytes, *, overwrite: bool = False) -> None:
    """Write a file by a temporary one beside it, synced and renamed; a failure leaves nothing behind.

    Two writers cannot both succeed without `overwrite`. OnebranchError in one line otherwise.
    """
    temporary = path.parent / f".onebranch-{os.urandom(8).hex()}.part"
    try:
        _write_new(temporary, content)
        (os.replace if overwrite else _place)(temporary, path)
    except FileExistsError:
        raise OnebranchError(_exists(path)) from None
    except OSError as error:
        raise OnebranchError(f"cannot write '{path}': {_why(error)}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _write_new(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _place(temporary: Path, path: Path) -> None:
    """Give the file its name unless the name is taken; FileExistsError if it is."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except (
        OSError
    ):  # a file system without links: hold the name with an empty file, then put the real one there
        with path.open("xb"):
            pass
        try:
            os.replace(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                path.unlink()
            raise


def _exists(path: Path) -> str:
    return f"cannot write '{path}': it exists; choose another name or allow overwriting (--overwrite)"


def _why(error: Exception) -> str:
    """The reason in the operating system's words, lower case: 'no space left on device'."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return text[:1].lower() + text[1:]


def find_pictures(folder: Path | str, recursive: bool = False) -> list[Path]:
    """The pictures in a folder, told by suffix, sorted; with `recursive` those in its folders too.

    Hidden files are left out, links to folders are not followed. OnebranchError if the folder is missing,
    cannot be read or holds no picture.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise OnebranchError(f"the picture folder '{folder}' {what}")
    found = [path for path in _files(folder, recursive) if path.suffix.lower() in BY_SUFFIX]
    if not found:
        hint = "" if recursive else " (its subfolders were not searched)"
        raise OnebranchError(f"no picture in '{folder}'{hint}; looked for {', '.join(BY_SUFFIX)}")
    return sorted(found)


def _files(folder: Path, recursive: bool) -> list[Path]:
    def fail(error: OSError) -> None:
        raise OnebranchError(f"cannot read the folder '{error.filename}': {_why(error)}")

    result: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        result += [Path(place) / name for name in names if not name.startswith(".")]
    return [path for path in result if path.is_file()]
