"""Decoded training pictures in one memory-mapped file, so that each is decoded only once.

For upscaling and downscaling, the low-quality picture of a pair is stored, too: the partner file if there is
one, else the bicubic reduction of the whole picture by `images.resize`, rounded to 8 bits. With
`data.degradation`, low-quality pictures are made for each crop instead (`training.crops`).
"""

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from onebranch.atomic_files import atomic_path, remove_leftovers, write_atomically
from onebranch.errors import OnebranchError
from onebranch.images.folders import find_pictures
from onebranch.images.reading import read
from onebranch.images.resize import imresize
from onebranch.images.samples import as_depth
from onebranch.spec.network import NetworkSpec
from onebranch.training.config import Data

RgbPicture = np.ndarray
"""A uint8 RGB picture (H, W, 3)."""

CACHE_VERSION = 2

PARTNER_SUFFIXES = ("", "x{scale}", "_x{scale}", "_LR", "_lr", "_LQ", "_lq", "_lrx{scale}", "_LRBI_x{scale}")
"""Suffixes by which common data sets distinguish the name of a low-quality partner from its picture's."""

MAX_PICTURES_AHEAD = 16
"""Pictures that are being decoded, or are decoded and not yet written, at most."""

NAMES_SHOWN = 10
"""Largest number of unusable pictures that a message names; the others are counted."""


@dataclass(frozen=True)
class Pairs:
    """Pictures and their low-quality partners, which are smaller by `scale`, by index.

    low: None if low-quality pictures are made for each crop (noise, or `data.degradation`). too_small: number
    of pictures that were left out because they are smaller than a patch. unreadable: errors of the pictures
    that could not be read.
    """

    names: tuple[str, ...]
    high: tuple[RgbPicture, ...]
    low: tuple[RgbPicture, ...] | None
    scale: int
    too_small: int = 0
    unreadable: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.high)


@dataclass(frozen=True)
class PairSource:
    """The source of pairs. partners: the folder of low-quality partners, or None.

    suffix: that of the partners' names; None to detect it. makes_low: low-quality pictures are computed and
    cached. skips_errors: pictures that cannot be read are left out.
    """

    folder: str
    partners: str | None
    suffix: str | None
    makes_low: bool
    skips_errors: bool


def training_source(data: Data, spec: NetworkSpec) -> PairSource:
    """The source of the training pairs."""
    return _source(data, spec, data.train, data.low_quality)


def validation_source(data: Data, spec: NetworkSpec) -> PairSource:
    """The source of the validation pairs; the config must name a validation folder."""
    assert data.validation
    return _source(data, spec, data.validation, data.validation_low_quality)


def _source(data: Data, spec: NetworkSpec, folder: str, partners: str | None) -> PairSource:
    makes_low = spec.task != "denoise" and not partners and data.degradation is None
    return PairSource(folder, partners, data.low_quality_suffix, makes_low, data.on_error == "skip")


def load_pairs(source: PairSource, spec: NetworkSpec, cache: Path, patch_size: int) -> Pairs:
    """All pictures of a source (recursively), decoded once into the folder `cache` and mapped from there.

    Pictures smaller than a patch are left out and counted. Raises OnebranchError when none is left, when
    partners are missing, ambiguous or of the wrong size, when pictures cannot be read (unless the source
    skips those), or when the folder is missing or empty.
    """
    paths = find_pictures(Path(source.folder), recursive=True)
    partners = find_partners(paths, source, spec.scale) if source.partners else None
    key = _key(paths, partners, [spec.task, spec.scale, source.makes_low, source.skips_errors])
    target = cache / f"{key}.npy"
    index_path = cache / f"{key}.json"
    index = _read_index(target, index_path)
    if index is None:
        _decode(paths, partners, spec, source, target, index_path)
        index = json.loads(index_path.read_text(encoding="utf-8"))
    pairs = _mapped(target, index, spec.scale, patch_size)
    _check_partners(pairs, spec)
    return pairs


def _read_index(target: Path, index_path: Path) -> dict[str, Any] | None:
    """The index of the cached pictures; None if the index or the data file is missing or has a wrong size."""
    try:
        index: dict[str, Any] = json.loads(index_path.read_text(encoding="utf-8"))
        sizes = [height * width * 3 for entry in index["pictures"] for _, height, width in entry["halves"]]
        return index if target.stat().st_size == sum(sizes) and "unreadable" in index else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _key(paths: list[Path], partners: list[Path] | None, settings: list[Any]) -> str:
    """A digest of everything that determines the cached pairs of a source."""
    lists = [paths] if partners is None else [paths, partners]
    facts = [[(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in paths] for paths in lists]
    return hashlib.sha256(json.dumps([CACHE_VERSION, settings, *facts]).encode()).hexdigest()[:24]


def find_partners(paths: Sequence[Path], source: PairSource, scale: int) -> list[Path]:
    """The low-quality partner of every picture: the same relative path, with one suffix common to all names.

    The file format may differ.

    The suffix is `source.suffix`, or the one of `PARTNER_SUFFIXES` under which every picture has exactly one
    partner. Raises OnebranchError if partners are missing, or if two suffixes or formats fit.
    """
    assert source.partners
    folder, paired = Path(source.folder), Path(source.partners)
    candidates: dict[str, list[Path]] = {}
    for path in find_pictures(paired, recursive=True):
        candidates.setdefault(str(path.relative_to(paired).with_suffix("")), []).append(path)
    stems = [str(path.relative_to(folder).with_suffix("")) for path in paths]
    suffixes = (source.suffix,) if source.suffix is not None else _usual_suffixes(scale)
    fitting = [suffix for suffix in suffixes if all(stem + suffix in candidates for stem in stems)]
    if not fitting:
        raise _missing_partner(paths, stems, suffixes, candidates, paired)
    if len(fitting) > 1:
        raise OnebranchError(
            f"{paired}: partners fit with the suffixes {fitting[0]!r} and {fitting[1]!r};"
            " choose one with 'data.low_quality_suffix'"
        )
    return [_only(candidates[stem + fitting[0]]) for stem in stems]


def _usual_suffixes(scale: int) -> tuple[str, ...]:
    return tuple(suffix.format(scale=scale) for suffix in PARTNER_SUFFIXES)


def _only(candidates: list[Path]) -> Path:
    if len(candidates) > 1:
        raise OnebranchError(
            f"{candidates[0]}: '{candidates[1].name}' is a second partner of the same picture; remove one"
        )
    return candidates[0]


def _missing_partner(
    paths: Sequence[Path],
    stems: list[str],
    suffixes: tuple[str, ...],
    candidates: dict[str, list[Path]],
    paired: Path,
) -> OnebranchError:
    best = max(suffixes, key=lambda suffix: sum(stem + suffix in candidates for stem in stems))
    missing = [path for path, stem in zip(paths, stems, strict=True) if stem + best not in candidates]
    suffix = f" with the suffix {best!r}" if best else ""
    return OnebranchError(
        f"{paired}: no partner for '{missing[0].name}'{suffix} ({len(missing)} missing); partners have the"
        " same names, or the same names with one suffix such as 'x2' or '_LR' ('data.low_quality_suffix')"
    )


def rgb_bytes(path: Path) -> RgbPicture:
    """A picture as uint8 RGB (H, W, 3); greyscale is repeated, 16 bits are rounded to 8, alpha is dropped."""
    pixels = as_depth(read(path).pixels, "uint8")
    return np.repeat(pixels, 3, 2) if pixels.shape[2] == 1 else pixels


def reduced(picture: RgbPicture, scale: int) -> RgbPicture:
    """The picture reduced bicubically by `images.resize`, rounded to 8 bits."""
    small = imresize(picture.astype(np.float32) / np.float32(255), 1 / scale)
    return as_depth(small, "uint8")


@dataclass(frozen=True)
class _Decoded:
    """A decoded picture and, if stored, its low-quality partner; or the error that made it unusable."""

    name: str
    halves: tuple[RgbPicture, ...] = ()
    error: str | None = None


def _decode(
    paths: list[Path],
    partners: list[Path] | None,
    spec: NetworkSpec,
    source: PairSource,
    target: Path,
    index_path: Path,
) -> None:
    """Decode all pictures into one flat file and write its index, both atomically."""

    def decoded(number: int) -> _Decoded:
        partner = partners[number] if partners else None
        try:
            return _Decoded(paths[number].stem, _halves(paths[number], partner, spec, source.makes_low))
        except OnebranchError as error:
            return _Decoded(paths[number].stem, error=str(error))

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OnebranchError(f"{target.parent}: cannot write the picture cache: {error.strerror}") from None
    remove_leftovers(target.parent)
    with (
        atomic_path(target, overwrite=True) as temporary,
        temporary.open("xb") as file,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        index = _write_halves(file, _in_order(pool, decoded, len(paths)))
        _refuse_errors(index["unreadable"], source)
    write_atomically(index_path, json.dumps(index).encode(), overwrite=True)


def _in_order(pool: ThreadPoolExecutor, decoded: Callable[[int], _Decoded], count: int) -> Iterator[_Decoded]:
    """The decoded pictures in order; only `MAX_PICTURES_AHEAD` of them wait in memory."""
    waiting: deque[Future[_Decoded]] = deque()
    for number in range(count):
        waiting.append(pool.submit(decoded, number))
        if len(waiting) > MAX_PICTURES_AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _write_halves(file: BinaryIO, pictures: Iterable[_Decoded]) -> dict[str, Any]:
    """Write all pictures one after the other. Returns the index with [offset in bytes, height, width] of each
    picture, and the errors.
    """
    entries: list[dict[str, Any]] = []
    errors: list[str] = []
    offset = 0
    for picture in pictures:
        if picture.error is not None:
            errors.append(picture.error)
            continue
        halves = []
        for half in picture.halves:
            file.write(np.ascontiguousarray(half).tobytes())
            halves.append((offset, half.shape[0], half.shape[1]))
            offset += half.size
        entries.append({"name": picture.name, "halves": halves})
    return {"pictures": entries, "unreadable": errors}


def _halves(path: Path, partner: Path | None, spec: NetworkSpec, makes_low: bool) -> tuple[RgbPicture, ...]:
    """The picture, cropped to a multiple of the scale, and its low-quality partner if that is stored."""
    scale = 1 if spec.task == "denoise" else spec.scale
    high = rgb_bytes(path)
    high = high[: high.shape[0] // scale * scale, : high.shape[1] // scale * scale]
    if partner:
        low = rgb_bytes(partner)
        _check_partner(high, low, spec, str(partner))
        return high, low
    return (high, reduced(high, scale)) if makes_low and min(high.shape) > 0 else (high,)


def _refuse_errors(errors: list[str], source: PairSource) -> None:
    """Raise OnebranchError that names every picture which could not be used, unless the source skips them."""
    if not errors or source.skips_errors:
        return
    if len(errors) == 1:
        raise OnebranchError(errors[0])
    named = "; ".join(errors[:NAMES_SHOWN])
    more = f"; and {len(errors) - NAMES_SHOWN} more" if len(errors) > NAMES_SHOWN else ""
    raise OnebranchError(
        f'{len(errors)} pictures cannot be used (on_error = "skip" in [data] leaves them out): {named}{more}'
    )


def _check_partners(pairs: Pairs, spec: NetworkSpec) -> None:
    """Raise OnebranchError if a stored partner does not have the size that the spec requires."""
    if pairs.low is not None:
        for name, high, low in zip(pairs.names, pairs.high, pairs.low, strict=True):
            _check_partner(high, low, spec, name)


def _check_partner(high: RgbPicture, low: RgbPicture, spec: NetworkSpec, name: str) -> None:
    expected = high.shape[0] // spec.scale, high.shape[1] // spec.scale
    if low.shape[:2] != expected:
        raise OnebranchError(
            f"{name}: a partner of {low.shape[1]}x{low.shape[0]} does not fit scale {spec.scale};"
            f" it must be {expected[1]}x{expected[0]}"
        )


def _mapped(target: Path, index: dict[str, Any], scale: int, patch_size: int) -> Pairs:
    entries = index["pictures"]
    if not entries:
        first = f"; the first: {index['unreadable'][0]}"
        raise OnebranchError(f"none of the {len(index['unreadable'])} pictures can be used{first}")

    large = [e for e in entries if min(e["halves"][0][1:]) // scale >= patch_size]
    if not large:
        raise OnebranchError(
            f"no picture is large enough: each side must be at least {patch_size * scale} pixels;"
            " use a smaller 'data.patch_size' or larger pictures"
        )
    flat = np.memmap(target, np.uint8, "r")

    def view(half: tuple[int, int, int]) -> RgbPicture:
        offset, height, width = half
        return flat[offset : offset + height * width * 3].reshape(height, width, 3)

    high = tuple(view(e["halves"][0]) for e in large)
    low = tuple(view(e["halves"][1]) for e in large) if len(large[0]["halves"]) > 1 else None
    names = tuple(e["name"] for e in large)
    return Pairs(names, high, low, scale, len(entries) - len(large), tuple(index["unreadable"]))
