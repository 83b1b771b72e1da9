"""`onebranch enhance` on one huge picture: time and peak memory of the command.

The picture is made of waves and noise in a temporary folder, which needs enough disk space for it and its
result. Memory is VmHWM of the command's own process, read from /proc.
"""

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.commands import COMMAND_SCRIPT
from onebranch.images.libvips import pyvips


@dataclass(frozen=True)
class HugePictureResult:
    """Sizes as (width, height), file sizes and peak memory in units of 10^6 bytes, elapsed seconds."""

    input_size: tuple[int, int]
    output_size: tuple[int, int]
    input_megabytes: float
    output_megabytes: float
    seconds: float
    peak_megabytes: float


def write_test_picture(path: Path, width: int, height: int) -> None:
    """An 8-bit RGB picture that does not compress to almost nothing."""
    wave = pyvips.Image.sines(width, height, hfreq=width / 30, vfreq=height / 250)
    noise = pyvips.Image.gaussnoise(width, height, sigma=4, seed=1)
    grey = (wave * 100 + 128 + noise).cast("uchar")
    grey.bandjoin([grey.invert(), grey]).copy(interpretation="srgb").write_to_file(str(path))


def enhance_huge_picture(
    width: int, height: int, suffix: str, model: str, memory: str | None
) -> HugePictureResult:
    """Make a picture, enhance it in a separate process, and measure that process."""
    with tempfile.TemporaryDirectory() as folder:
        source, target, peak = (Path(folder, name + suffix) for name in ("in", "out", "peak"))
        write_test_picture(source, width, height)
        options = ["-m", model, "-o", str(target), "-q", *(["--memory", memory] if memory else [])]
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", COMMAND_SCRIPT, "enhance", str(source), *options, str(peak)], check=True
        )
        seconds = time.perf_counter() - start
        result = pyvips.Image.new_from_file(str(target))
        return HugePictureResult(
            (width, height),
            (result.width, result.height),
            source.stat().st_size / 1e6,
            target.stat().st_size / 1e6,
            seconds,
            int(peak.read_text()) * 1024 / 1e6,
        )
