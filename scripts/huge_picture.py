"""Double a huge picture from file to file with `onebranch enhance`, and print its time and peak memory.

The picture (30,000 x 20,000 unless said: waves and noise) is made in a temporary folder, which needs
room for it and its result. Memory is VmHWM of the command's own process, read from /proc.

    python scripts/huge_picture.py --suffix .png --memory 500M
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from onebranch.bench.pictures import COMMAND
from onebranch.images.libvips import pyvips


def make(path: Path, width: int, height: int) -> None:
    """An RGB picture of 8 bits that does not compress to nothing."""
    wave = pyvips.Image.sines(width, height, hfreq=width / 30, vfreq=height / 250)
    noise = pyvips.Image.gaussnoise(width, height, sigma=4, seed=1)
    grey = (wave * 100 + 128 + noise).cast("uchar")
    grey.bandjoin([grey.invert(), grey]).copy(interpretation="srgb").write_to_file(str(path))


def main() -> None:
    """Parse, make, enhance, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=int, default=30_000)
    parser.add_argument("--height", type=int, default=20_000)
    parser.add_argument("--suffix", default=".tif", help=".tif, .png, ... of picture and result")
    parser.add_argument("--memory", help="given on to the command")
    parser.add_argument("--model", default="photo-x2")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, target, peak = (Path(folder, name + arguments.suffix) for name in ("in", "out", "peak"))
        make(source, arguments.width, arguments.height)
        options = ["-m", arguments.model, "-o", str(target), "-q"]
        options += ["--memory", arguments.memory] if arguments.memory else []
        begin = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", COMMAND, "enhance", str(source), *options, str(peak)], check=True
        )
        seconds = time.perf_counter() - begin
        megabytes = int(peak.read_text()) * 1024 / 1e6
        result = pyvips.Image.new_from_file(str(target))
        print(
            f"{arguments.width}x{arguments.height} -> {result.width}x{result.height} {arguments.suffix}"
            f" ({source.stat().st_size / 1e6:,.0f} -> {target.stat().st_size / 1e6:,.0f} MB):"
            f" {seconds:.0f} s, at most {megabytes:.0f} MB resident"
        )


if __name__ == "__main__":
    main()
