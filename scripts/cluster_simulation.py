"""Simulate a batch of many pictures on many nodes with the real schedule and recorded task times.

    python scripts/cluster_simulation.py                     # the figures of docs/guides/cluster.md
    python scripts/cluster_simulation.py --record            # record task times again

Time is simulated; the schedule (`onebranch.cluster.schedule`) and the records of the manifest are the real
ones, and their processor time and bytes are measured. Nodes are lost at random, return later, and lose the
pictures in flight. Recorded are the processor seconds of one thread for pictures of 4, 12 and 24 megapixels.
Prices are assumptions, which options replace.
"""

import argparse
import heapq
import json
import random
import tempfile
import time
import tracemalloc
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from onebranch.cluster.schedule import BatchSchedule, Capacity, CompletedTask
from onebranch.cluster.tasks import ClusterTask, PictureReport, PictureRow
from onebranch.enhancer.batch import Skipped
from onebranch.enhancer.manifest import ManifestRecord, as_lines
from onebranch.enhancer.single_file import FileOptions

TIMES = Path(__file__).resolve().parent / "task_times.json"
"""Processor seconds by megapixels, as `--record` writes them."""

SHARES = {"4": 0.3, "12": 0.6, "24": 0.1}
"""The assumed share of each size, in megapixels, among the pictures."""

TRANSFER_SECONDS = 0.15
"""Assumed time to fetch a picture and to upload its result."""

RETURN_SECONDS = 180.0
"""Assumed time until a lost node is replaced."""

GIGABYTE = 1 << 30

FILE_OPTIONS = FileOptions()


@dataclass(frozen=True)
class Prices:
    """In dollars: a core for an hour, a thousand GET or HEAD requests, a thousand PUT or LIST requests."""

    core_hour: float
    get: float
    put: float


@dataclass
class SimulatedNodes:
    """An executor with a clock of its own. losses_per_hour: of each node. times: seconds of every picture."""

    nodes: int
    cores: int
    losses_per_hour: float
    times: list[float]
    generator: random.Random
    now: float = 0.0
    busy_seconds: float = 0.0
    lost_seconds: float = 0.0
    losses: int = 0
    repeated: int = 0
    waiting: deque[ClusterTask] = field(default_factory=deque)
    running: dict[int, tuple[ClusterTask, int, float]] = field(default_factory=dict)
    events: list[tuple[float, str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Plan the first loss of every node."""
        self.free = dict.fromkeys(range(self.nodes), self.cores)
        self.started = 0
        for node in range(self.nodes):
            self._plan_loss(node)

    def capacity(self) -> Capacity:
        """The cores of all nodes; each has 2 GB a core."""
        return Capacity(self.nodes * self.cores, self.cores, 2 * GIGABYTE * self.cores)

    def submit(self, task: ClusterTask) -> None:
        """Start a task when a core is free."""
        self.waiting.append(task)
        self._start()

    def completed(self) -> list[CompletedTask]:
        """The next tasks that end, at their time."""
        while True:
            self.now, kind, key = heapq.heappop(self.events)
            if kind == "end" and key in self.running:
                task, node, begin = self.running.pop(key)
                self.free[node] += 1
                self._start()
                seconds = self.now - begin
                self.busy_seconds += seconds
                reports = [PictureReport(row.index, Skipped(row.job)) for row in task.rows]
                return [CompletedTask(task, reports, seconds)]
            if kind == "loss" and (lost := self._lose(key)):
                return lost
            if kind == "return":
                self.free[key] = self.cores
                self._plan_loss(key)
                self._start()

    def close(self) -> None:
        """Nothing runs any more."""

    def _plan_loss(self, node: int) -> None:
        if self.losses_per_hour:
            wait = 3600 * self.generator.expovariate(self.losses_per_hour)
            heapq.heappush(self.events, (self.now + wait, "loss", node))

    def _lose(self, node: int) -> list[CompletedTask]:
        """End the tasks of a node; it returns later."""
        self.losses += 1
        self.free[node] = 0
        heapq.heappush(self.events, (self.now + RETURN_SECONDS, "return", node))
        keys = [key for key, (_, used, _) in self.running.items() if used == node]
        tasks = [self.running.pop(key) for key in keys]
        self.lost_seconds += sum(self.now - begin for _, _, begin in tasks)
        self.repeated += sum(len(task.rows) for task, _, _ in tasks)
        return [CompletedTask(task, lost="its node was lost") for task, _, _ in tasks]

    def _start(self) -> None:
        for node, free in self.free.items() if self.waiting else ():
            while self.waiting and free:
                free -= 1
                self.free[node] = free
                task = self.waiting.popleft()
                self.started += 1
                self.running[self.started] = (task, node, self.now)
                seconds = sum(self.times[row.index] for row in task.rows)
                heapq.heappush(self.events, (self.now + seconds, "end", self.started))


def record() -> None:
    """Measure pictures of each size, and write the times."""
    from onebranch.enhancer.enhancer import Enhancer
    from onebranch.enhancer.options import Options
    from onebranch.enhancer.single_file import enhance_file
    from onebranch.images.picture import Picture
    from onebranch.images.reading import read
    from onebranch.images.resize import resize
    from onebranch.images.writing import write
    from onebranch.model.catalogue import MODELS_FOLDER

    photograph = read(MODELS_FOLDER.parent / "photograph.png").pixels
    enhancer = Enhancer(Options(model="photo-x2", threads=1))
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in SHARES:
            side = round((int(size) * 1e6) ** 0.5)
            pixels = resize(photograph.astype("float32"), side, side).round().clip(0, 255).astype("uint8")
            source = Path(folder, f"{size}.jpg")
            write(Picture(pixels), source)
            times[size] = []
            for number in range(3):
                begin = time.process_time()
                enhance_file(source, Path(folder, f"{size}-{number}.jpg"), enhancer, FILE_OPTIONS)
                times[size].append(round(time.process_time() - begin, 3))
    TIMES.write_text(json.dumps(times, indent=1) + "\n")


def simulate(pictures: int, nodes: int, cores: int, losses_per_hour: float) -> tuple[SimulatedNodes, float]:
    """The nodes after a batch, and the processor seconds of the schedule itself."""
    generator = random.Random(1)
    recorded = json.loads(TIMES.read_text())
    sizes = generator.choices(list(SHARES), list(SHARES.values()), k=pictures)
    times = [generator.choice(recorded[size]) + TRANSFER_SECONDS for size in sizes]
    rows = [PictureRow(n, f"s3://in/{n}", f"s3://out/{n}", None, "", f"{n}") for n in range(pictures)]
    executor = SimulatedNodes(nodes, cores, losses_per_hour, times, generator)
    begin = time.process_time()
    reported = sum(len(reports) for reports in BatchSchedule(rows, executor).reports())
    assert reported == pictures, "every picture is reported once"
    return executor, time.process_time() - begin


def example_record() -> ManifestRecord:
    """A record of the manifest at a URL."""
    state = {"size": 4_000_000, "changed": 1_790_000_000_000_000_000, "digest": "0" * 32, "version": "0" * 32}
    picture = {"path": "s3://bucket/pictures/2026/000001.jpg", **state}
    return {"picture": picture, "target": "2026/000001.jpg", "result": dict(state), "options": "0" * 32}


def row_bytes(count: int = 1000) -> float:
    """Bytes of a row with one earlier record, in the memory of the driver."""
    tracemalloc.start()
    rows = [
        PictureRow(
            n, f"s3://in/{n:09}", f"s3://out/{n:09}", None, f"s3://in/{n:09}", f"{n:09}", (example_record(),)
        )
        for n in range(count)
    ]
    size = tracemalloc.get_traced_memory()[0] / len(rows)
    tracemalloc.stop()
    return size


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--record", action="store_true", help="record task times")
    parser.add_argument("--pictures", type=int, default=10_000_000, help="of the whole batch")
    parser.add_argument("--shards", type=int, default=100, help="runs, each with a driver; one is simulated")
    parser.add_argument("--nodes", type=int, default=16, help="of one run")
    parser.add_argument("--cores", type=int, default=16, help="of a node")
    parser.add_argument("--losses", type=float, default=1.0, help="of a node in an hour")
    parser.add_argument("--core-hour", type=float, default=0.02, help="dollars")
    parser.add_argument("--get", type=float, default=0.0004, help="dollars for 1,000 GET or HEAD requests")
    parser.add_argument("--put", type=float, default=0.005, help="dollars for 1,000 PUT or LIST requests")
    arguments = parser.parse_args()
    if arguments.record:
        record()
    pictures = arguments.pictures // arguments.shards
    nodes, driver = simulate(pictures, arguments.nodes, arguments.cores, arguments.losses)
    prices = Prices(arguments.core_hour, arguments.get, arguments.put)
    for name, value in figures(nodes, driver, pictures, arguments.shards, prices):
        print(f"| {name} | {value} |")


def figures(
    nodes: SimulatedNodes, driver: float, pictures: int, shards: int, prices: Prices
) -> list[tuple[str, str]]:
    """Names and values of what is shown."""
    cores = nodes.nodes * nodes.cores
    core_hours = cores * nodes.now / 3600
    requests = shards * pictures
    parts = -(-nodes.now // 10)
    lists = 2 * -(-pictures // 1000)
    size = len(as_lines([example_record()]))
    gets, puts = 4 * requests + shards * parts, requests + shards * (parts + lists)
    machines = shards * core_hours * prices.core_hour
    return [
        ("pictures of a run, cores", f"{pictures:,}, {cores}"),
        ("time of a run", f"{nodes.now / 3600:.2f} h"),
        ("cores at work", f"{100 * (nodes.busy_seconds + nodes.lost_seconds) / (cores * nodes.now):.1f} %"),
        ("nodes lost in a run, pictures repeated", f"{nodes.losses}, {nodes.repeated:,}"),
        ("processor time lost with nodes", f"{100 * nodes.lost_seconds / nodes.busy_seconds:.2f} %"),
        ("memory of the rows of a run", f"{pictures * row_bytes() / 1e6:.0f} MB"),
        ("processor time of the schedule per picture", f"{1e6 * driver / pictures:.0f} µs"),
        ("pictures a second", f"{pictures / nodes.now:.0f}"),
        ("manifest of a run", f"{pictures * size / 1e6:.0f} MB in {parts:.0f} parts of 10 s"),
        ("all runs", f"{shards} x {core_hours:.0f} core hours = {shards * core_hours:,.0f}"),
        ("cost of machines", f"${machines:,.0f} at ${prices.core_hour} a core hour"),
        ("cost of requests", f"${gets / 1000 * prices.get + puts / 1000 * prices.put:,.0f}"),
    ]


if __name__ == "__main__":
    main()
