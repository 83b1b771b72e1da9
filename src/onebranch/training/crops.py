"""Decoded pictures in one memory-mapped file, and the crops of a batch as a function of (seed, step, index).

The pictures are decoded once; the smaller half of an upscale or downscale pair is made then, from the whole
picture, by the bicubic of `images.resize`, rounded to 8 bits. Noise is drawn when a crop is taken.
"""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onebranch.atomic_files import atomic_path, write_atomically
from onebranch.errors import OnebranchError
from onebranch.images.colour import luma
from onebranch.images.folders import find_pictures
from onebranch.images.picture import as_depth
from onebranch.images.reading import read
from onebranch.images.resize import imresize
from onebranch.spec.network import NetworkSpec
from onebranch.training.config import Data

Bytes = np.ndarray
"""uint8 pictures (H, W, 3)."""

CACHE_VERSION = 1


@dataclass(frozen=True)
class Pairs:
    """Pictures by index and their low-quality halves: smaller by `scale`, or degraded in a paired folder.

    `low` is None where the degradation is drawn with the crop (denoise without a paired folder).
    """

    names: tuple[str, ...]
    high: tuple[Bytes, ...]
    low: tuple[Bytes, ...] | None
    scale: int

    def __len__(self) -> int:
        return len(self.high)


@dataclass(frozen=True)
class Crops:
    """Batches of crops: the network's inputs and the labels."""

    pairs: Pairs
    spec: NetworkSpec
    data: Data
    seed: int

    def batch(self, step: int, indices: range) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and labels (N, C, h, w) float32 of the crops at `indices` of the global batch of `step`."""
        taken = [self.crop(step, index) for index in indices]
        return np.stack([low for low, _ in taken]), np.stack([high for _, high in taken])

    def crop(self, step: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """One (input, label) crop, channels first, in [0, 1]; the same for the same arguments."""
        rng = np.random.default_rng((self.seed, step, index))
        which = int(rng.integers(len(self.pairs)))
        high, low = self._places(which, rng)
        turn = int(rng.integers(8)) if self.data.augment else 0
        large = channels_first(_turned(high, turn), self.spec.colour)
        if low is None:
            return _noisy(large, self.data.sigma, rng), large
        small = channels_first(_turned(low, turn), self.spec.colour)
        return (large, small) if self.spec.task == "downscale" else (small, large)

    def _places(self, which: int, rng: np.random.Generator) -> tuple[Bytes, Bytes | None]:
        """The same place in both halves; the patch counts pixels of the smaller half."""
        scale, patch = self.pairs.scale, self.data.patch
        height, width = (side // scale for side in self.pairs.high[which].shape[:2])
        y, x = int(rng.integers(height - patch + 1)), int(rng.integers(width - patch + 1))
        high = self.pairs.high[which][y * scale : (y + patch) * scale, x * scale : (x + patch) * scale]
        low = self.pairs.low
        return high, None if low is None else low[which][y : y + patch, x : x + patch]


def channels_first(picture: Bytes, colour: str) -> np.ndarray:
    """uint8 RGB (H, W, 3) as float32 (1, H, W) studio luma / 255, or (3, H, W) RGB, in [0, 1]."""
    values = picture.astype(np.float32) / np.float32(255)
    planes: np.ndarray = luma(values)[None] if colour == "y" else values.transpose(2, 0, 1)
    return np.ascontiguousarray(planes)


def _turned(picture: Bytes, turn: int) -> Bytes:
    """One of the eight flips and turns."""
    picture = np.rot90(picture, turn % 4)
    return picture[:, ::-1] if turn >= 4 else picture


def _noisy(label: np.ndarray, sigma: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise of one level for the crop, drawn from the range (in 8-bit grey levels), unclipped."""
    level = np.float32(rng.uniform(*sigma) / 255)
    noisy: np.ndarray = label + level * rng.standard_normal(label.shape, np.float32)
    return noisy


def load_pairs(folder: str, paired: str | None, spec: NetworkSpec, cache: Path, patch: int) -> Pairs:
    """All pictures of a folder (recursively), decoded once into `cache` and mapped from there.

    Pictures smaller than the patch are left out; OnebranchError when none is left, when a paired picture is
    missing or has the wrong size, or when the folder is missing or empty.
    """
    paths = find_pictures(Path(folder), recursive=True)
    partners = _partners(paths, Path(folder), Path(paired)) if paired else None
    makes_low = spec.task != "denoise" and not partners
    key = _key(paths + (partners or []), spec.scale if makes_low else 0)
    target = cache / f"{key}.npy"
    index = cache / f"{key}.json"
    entries = _entries(target, index)
    if entries is None:
        _decode(paths, partners, spec, makes_low, target, index)
        entries = json.loads(index.read_text())
    return _mapped(target, entries, spec.scale, patch)


def _entries(target: Path, index: Path) -> list[dict] | None:  # type: ignore[type-arg]
    """The index of pictures that were decoded before; None where it or they are absent or damaged."""
    try:
        entries: list[dict] = json.loads(index.read_text())  # type: ignore[type-arg]
        size = sum(height * width * 3 for entry in entries for _, height, width in entry["places"])
        return entries if target.stat().st_size == size else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _key(paths: list[Path], scale: int) -> str:
    facts = [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in paths]
    return hashlib.sha256(json.dumps([CACHE_VERSION, scale, facts]).encode()).hexdigest()[:24]


def _partners(paths: list[Path], folder: Path, paired: Path) -> list[Path]:
    """The low-quality picture of every picture: the same relative name, any suffix."""
    there = {p.relative_to(paired).with_suffix(""): p for p in find_pictures(paired, recursive=True)}
    missing = [p for p in paths if p.relative_to(folder).with_suffix("") not in there]
    if missing:
        raise OnebranchError(
            f"{paired}: no partner for '{missing[0].name}' ({len(missing)} missing);"
            " paired folders hold pictures of the same names"
        )
    return [there[p.relative_to(folder).with_suffix("")] for p in paths]


def rgb_bytes(path: Path) -> Bytes:
    """A picture as uint8 RGB (H, W, 3); greyscale is repeated, 16 bits are rounded to 8, alpha is dropped."""
    pixels = as_depth(read(path).pixels, "uint8")
    return np.repeat(pixels, 3, 2) if pixels.shape[2] == 1 else pixels


def reduced(picture: Bytes, scale: int) -> Bytes:
    """The low-quality half: our bicubic of the picture, rounded to 8 bits."""
    small = imresize(picture.astype(np.float32) / np.float32(255), 1 / scale)
    return as_depth(small, "uint8")


def _decode(
    paths: list[Path],
    partners: list[Path] | None,
    spec: NetworkSpec,
    makes_low: bool,
    target: Path,
    index: Path,
) -> None:
    """Decode into one flat file and its index of places, each written under a temporary name first."""
    scale = 1 if spec.task == "denoise" else spec.scale

    def halves(place: int) -> tuple[Bytes, Bytes | None]:
        high = rgb_bytes(paths[place])
        high = high[: high.shape[0] // scale * scale, : high.shape[1] // scale * scale]
        if partners:
            low = rgb_bytes(partners[place])
            _check_partner(high, low, spec, partners[place])
            return high, low
        return high, reduced(high, scale) if makes_low and min(high.shape) > 0 else None

    entries, offset = [], 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _no_cache(target.parent, error) from None
    with (
        atomic_path(target, overwrite=True) as temporary,
        temporary.open("xb") as file,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        for path, (high, low) in zip(paths, pool.map(halves, range(len(paths))), strict=True):
            places = []
            for half in (high, low):
                if half is not None:
                    file.write(np.ascontiguousarray(half).tobytes())
                    places.append((offset, half.shape[0], half.shape[1]))
                    offset += half.size
            entries.append({"name": path.stem, "places": places})
    write_atomically(index, json.dumps(entries).encode(), overwrite=True)


def _no_cache(folder: Path, error: OSError) -> OnebranchError:
    return OnebranchError(f"{folder}: cannot write the picture cache: {error.strerror}")


def _check_partner(high: Bytes, low: Bytes, spec: NetworkSpec, path: Path) -> None:
    expected = high.shape[0] // spec.scale, high.shape[1] // spec.scale
    if low.shape[:2] != expected:
        raise OnebranchError(
            f"{path}: a partner of {low.shape[1]}x{low.shape[0]} does not fit scale {spec.scale};"
            f" it must be {expected[1]}x{expected[0]}"
        )


def _mapped(target: Path, entries: list[dict], scale: int, patch: int) -> Pairs:  # type: ignore[type-arg]
    flat = np.memmap(target, np.uint8, "r")

    def view(place: tuple[int, int, int]) -> Bytes:
        offset, height, width = place
        return flat[offset : offset + height * width * 3].reshape(height, width, 3)

    large = [e for e in entries if min(e["places"][0][1:]) // scale >= patch]
    if not large:
        raise OnebranchError(
            f"no picture is large enough: each side must be at least {patch * scale} pixels;"
            " use a smaller 'data.patch' or larger pictures"
        )
    high = tuple(view(e["places"][0]) for e in large)
    low = tuple(view(e["places"][1]) for e in large) if len(large[0]["places"]) > 1 else None
    return Pairs(tuple(e["name"] for e in large), high, low, scale)
