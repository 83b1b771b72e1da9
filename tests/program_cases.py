"""Programs recorded in files, and run on many threads without PyTorch, for ThreadSanitizer.

python tests/program_cases.py write FOLDER
python tests/program_cases.py run FOLDER
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from onebranch.runtime.engine import Engine

NAMES = ("mixed", "u-net", "span-8", "ffdnet")


def write(folder: Path) -> None:
    """Record the programs of some networks of `programs`."""
    from programs import NETWORKS, exported, program_of

    for name in NAMES:
        channels, build = NETWORKS[name]
        (folder / f"{name}.program").write_bytes(program_of(exported(build(), channels)).packed())


def run(folder: Path) -> None:
    """Run each program with several threads, on several pictures at once; the results must be equal."""
    for path in sorted(folder.glob("*.program")):
        engines = [Engine(path.read_bytes(), threads) for threads in (1, 3)]
        channels = engines[0].picture_channels("own")
        picture = np.random.default_rng(0).integers(0, 256, (48, 60, channels), np.uint8)
        wanted = engines[0].run(picture, "uint8")
        with ThreadPoolExecutor(4) as pool:
            running = [pool.submit(engine.run, picture, "uint8") for engine in engines * 8]
            for each in running:
                np.testing.assert_array_equal(each.result(), wanted)
        print(f"{path.stem}: equal on 1 and 3 threads, and on 4 pictures at once")


if __name__ == "__main__":
    {"write": write, "run": run}[sys.argv[1]](Path(sys.argv[2]))
