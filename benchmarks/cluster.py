"""`onebranch enhance --cluster` on one and on two nodes, each pinned to one core, with local folders.

The driver and Ray's own processes run on all cores; the processor time that they use is measured.
"""

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.targets import Target
from onebranch.images.picture import Picture
from onebranch.images.reading import read
from onebranch.images.resize import resize
from onebranch.images.writing import write
from onebranch.model.catalogue import MODELS_FOLDER

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"

MODEL = "photo-x2"
MIN_SPEEDUP = 1.5
"""The goal: pictures a second on two nodes over those on one."""


@dataclass(frozen=True)
class ClusterRow:
    """A run. seconds: from the first result on. workers, driver, ray: processor seconds of the whole run."""

    nodes: int
    pictures: int
    seconds: float
    workers: float
    driver: float
    ray: float

    @property
    def rate(self) -> float:
        """Pictures a second; the first one, which waits for the workers to start, does not count."""
        return (self.pictures - 1) / self.seconds

    @property
    def overhead(self) -> float:
        """The share of driver and Ray in the processor time."""
        return (self.driver + self.ray) / (self.workers + self.driver + self.ray)


def compare(pictures: int, megapixels: float, report: Callable[[str], None]) -> list[ClusterRow]:
    """Enhance pictures of that size on one node, then on two."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "in")
        _write_pictures(source, pictures, megapixels)
        rows = []
        for nodes in (1, 2):
            report(f"{pictures} pictures on {nodes} {'node' if nodes == 1 else 'nodes'}")
            rows.append(_run(source, Path(folder, f"out-{nodes}"), nodes, pictures))
    return rows


def goals(rows: list[ClusterRow]) -> list[Target]:
    """The goal of the throughput."""
    one, two = rows
    return [Target("pictures a second on two nodes over one", MIN_SPEEDUP, two.rate / one.rate)]


def _run(source: Path, out: Path, nodes: int, pictures: int) -> ClusterRow:
    sys.path.insert(0, str(SCRIPTS))
    from local_cluster import NodeProcesses, processor_seconds

    with NodeProcesses(nodes, pinned=True) as cluster:
        daemons = cluster.daemons()
        before = processor_seconds(daemons)
        words = [sys.executable, "-m", "onebranch", "enhance", str(source), "-o", str(out), "-m", MODEL]
        process = subprocess.Popen([*words, "-q", "--cluster", cluster.address])
        used: dict[int, float] = {}
        first = [0.0]

        def watch() -> None:
            """Sample the processor time of driver and workers, which is lost when they end."""
            while process.poll() is None:
                for number in (process.pid, *cluster.workers()):
                    used[number] = max(used.get(number, 0.0), processor_seconds([number]))
                if not first[0] and any(out.glob("*.jpg")):
                    first[0] = time.perf_counter()
                time.sleep(0.1)

        watcher = threading.Thread(target=watch)
        watcher.start()
        process.wait()
        end = time.perf_counter()
        watcher.join()
        ray = processor_seconds(daemons) - before
        driver = used.pop(process.pid, 0.0)
    return ClusterRow(nodes, pictures, end - first[0], sum(used.values()), driver, ray)


def _write_pictures(folder: Path, count: int, megapixels: float) -> None:
    """A photograph in that size, as JPEG files."""
    folder.mkdir()
    side = round((megapixels * 1e6) ** 0.5)
    photograph = read(MODELS_FOLDER.parent / "photograph.png").pixels.astype("float32")
    pixels = resize(photograph, side, side).round().clip(0, 255).astype("uint8")
    for number in range(count):
        write(Picture(pixels), folder / f"{number:03}.jpg")
