"""Pack training pictures for a machine that is reached by a small transfer, such as a borrowed GPU.

    python scripts/pack_pictures.py OUT [--mebibytes 54] [--wheels 3.12]

Copies whole files from the training set, unchanged, to OUT/train: those with the most pixels per byte first,
as many as fit into the given size, evenly from every folder that fits only in part; and the first validation
pictures to OUT/validation. With --wheels the packages that training needs beside PyTorch, NumPy, Pillow,
safetensors and rich are added to OUT/wheels, for Linux on x86-64 and that version of Python. The runs of the
training queue that others start from, or that are not finished, are added to OUT/runs.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from onebranch.images.folders import find_pictures
from onebranch.images.probe import probe
from queue_folder import queue_folder

ROOT = Path(__file__).resolve().parent.parent

MEBIBYTE = 2**20

WHEELS = ("msgspec", "pyvips", "pyvips-binary", "cffi", "pycparser")
"""Packages that training imports and that machines with PyTorch often lack."""

CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True)
class Source:
    """The pictures of one folder of the training set, with their sizes."""

    paths: tuple[Path, ...]
    file_bytes: int
    pixels: int


def main() -> None:
    """Choose, copy, and print what was packed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--mebibytes", type=float, default=54)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--validation", type=int, default=8, help="number of validation pictures")
    parser.add_argument("--wheels", metavar="VERSION", help="add wheels for this Python version")
    parser.add_argument("--runs", type=Path, help="folder of runs [that of make ladder]")
    arguments = parser.parse_args()
    out = arguments.out
    shutil.rmtree(out, ignore_errors=True)
    validation = find_pictures(arguments.data / "val" / "cid22_val")[: arguments.validation]
    copy(validation, arguments.data / "val" / "cid22_val", out / "validation")
    copy_runs(arguments.runs or queue_folder() / "runs", out / "runs")
    if arguments.wheels:
        download_wheels(arguments.wheels, out / "wheels")
    left = round(arguments.mebibytes * MEBIBYTE) - folder_bytes(out)
    train = arguments.data / "train"
    chosen = choose([source_of(folder) for folder in sorted(train.iterdir()) if folder.is_dir()], left)
    copy(chosen, train, out / "train")
    pixels = sum(pixels_of(path) for path in chosen)
    print(
        f"{len(chosen)} training pictures ({1e-6 * pixels:.1f} megapixels), {len(validation)} for validation,"
        f" {folder_bytes(out) / MEBIBYTE:.1f} MiB in {out}"
    )


def source_of(folder: Path) -> Source:
    """The pictures of a folder."""
    paths = tuple(find_pictures(folder, recursive=True))
    return Source(paths, sum(p.stat().st_size for p in paths), sum(pixels_of(p) for p in paths))


def pixels_of(path: Path) -> int:
    """Width times height."""
    header = probe(path)
    return header.width * header.height


def choose(sources: Sequence[Source], limit_bytes: int) -> list[Path]:
    """Pictures of at most `limit_bytes` together, from the sources with the most pixels per byte first.

    Of a source that does not fit as a whole, evenly spaced pictures are taken.
    """
    chosen: list[Path] = []
    left = limit_bytes
    for source in sorted(sources, key=lambda one: one.pixels / max(1, one.file_bytes), reverse=True):
        for path in evenly(source.paths, left / max(1, source.file_bytes)):
            if path.stat().st_size <= left:
                chosen.append(path)
                left -= path.stat().st_size
    return chosen


def evenly(paths: Sequence[Path], share: float) -> list[Path]:
    """Evenly spaced paths, a share (0 to 1) of all of them.

    >>> evenly("abcdef", 0.5)
    ['a', 'c', 'e']
    """
    count = int(len(paths) * max(0.0, min(1.0, share)))
    return [paths[index * len(paths) // count] for index in range(count)]


def copy(paths: Sequence[Path], source: Path, target: Path) -> None:
    """Copy files, keeping their folders below `source`."""
    for path in paths:
        copied = target / path.relative_to(source)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copied)


def copy_runs(runs: Path, target: Path) -> None:
    """Copy each run's trained model, or else its checkpoint, and its log."""
    for run in sorted(path for path in runs.glob("*") if path.is_dir()):
        models = [path for path in run.glob("*.safetensors") if path.name != CHECKPOINT]
        kept = [*(models or run.glob(CHECKPOINT)), run / "log.jsonl"]
        copy([path for path in kept if path.exists()], runs, target)


def download_wheels(version: str, target: Path) -> None:
    """Download wheels for Linux on x86-64; pyvips, which has none, is built from its source."""
    target.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip"]
    constraints = ["-c", str(ROOT / "constraints.txt"), "--quiet", "--no-deps"]
    platforms = [f"--platform=manylinux{tag}_x86_64" for tag in ("_2_28", "_2_17", "2014")]
    fixed = ["--only-binary=:all:", f"--python-version={version}", "--implementation=cp", *platforms]
    names = [name for name in WHEELS if name != "pyvips"]
    subprocess.run([*pip, "download", *constraints, *fixed, "-d", str(target), *names], check=True)
    environment = {**os.environ, "PIP_NO_BINARY": "pyvips"}
    subprocess.run([*pip, "wheel", *constraints, "-w", str(target), "pyvips"], check=True, env=environment)


def folder_bytes(folder: Path) -> int:
    """The bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
