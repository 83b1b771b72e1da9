"""A Ray cluster of node processes and an S3 server on this machine, for trials and measurements."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

NODE_MEMORY, OBJECT_STORE_BYTES = 1 << 30, 80_000_000
"""Bytes of a node for tasks and for Ray's object store, which holds the model only."""

ROOT = Path(__file__).resolve().parent.parent


def print_with_time() -> Callable[[str], None]:
    """A function that prints a line on stderr, with the seconds since this call."""
    begin = time.monotonic()

    def report(line: str) -> None:
        print(f"{time.monotonic() - begin:6.1f} s  {line}", file=sys.stderr, flush=True)

    return report


def wait_for(
    count: int,
    results: Callable[[], Sized],
    process: "subprocess.Popen[str]",
    *,
    seconds: float,
    interval: float,
) -> None:
    """Wait until there are that many results, and count them every `interval` seconds.

    Raises RuntimeError if the command ends before, TimeoutError after `seconds`.
    """
    end = time.monotonic() + seconds
    while len(results()) < count:
        if process.poll() is not None:
            raise RuntimeError(f"the command has ended early: {process.communicate()}")
        if time.monotonic() > end:
            raise TimeoutError(f"no {count} results after {seconds:.0f} s")
        time.sleep(interval)


class NodeProcesses:
    """A cluster with a head that has no cores, and nodes with one core each; a context manager.

    pinned: node number N and all its processes run on the processor core N only.
    """

    def __init__(self, nodes: int, pinned: bool = False) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_worker_niceness", "0")  # by default workers yield to all other processes
        os.environ["PYTHONPATH"] = str(ROOT / "src")  # nodes and their workers inherit the environment
        os.environ["OMP_NUM_THREADS"] = "1"
        from ray.cluster_utils import Cluster

        self._pinned = pinned
        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "object_store_memory": OBJECT_STORE_BYTES},
        )
        self._nodes: list[Any] = []
        for _ in range(nodes):
            self.add()

    def __enter__(self) -> "NodeProcesses":
        return self

    def __exit__(self, *_: object) -> None:
        self._cluster.shutdown()

    @property
    def address(self) -> str:
        """The address for --cluster."""
        return str(self._cluster.address)

    def add(self) -> None:
        """Start a node."""
        before = os.sched_getaffinity(0)
        if self._pinned:
            os.sched_setaffinity(0, {sorted(before)[len(self._nodes) % len(before)]})
        try:
            node = self._cluster.add_node(
                num_cpus=1, memory=NODE_MEMORY, object_store_memory=OBJECT_STORE_BYTES
            )
        finally:
            os.sched_setaffinity(0, before)
        self._nodes.append(node)

    def kill_node(self) -> None:
        """End the last node and its workers at once."""
        self._cluster.remove_node(self._nodes.pop(), allow_graceful=False)

    def kill_worker(self) -> bool:
        """End a worker process that runs a task; False if none does."""
        for process in self.workers():
            if "run_task" in command_of(process):
                os.kill(process, signal.SIGKILL)
                return True
        return False

    def workers(self) -> list[int]:
        """The worker processes of all nodes."""
        return [
            child
            for node in self._nodes
            for daemon in node.all_processes["raylet"]
            for child in descendants(daemon.process.pid)
            if command_of(child).startswith("ray::")
        ]

    def daemons(self) -> list[int]:
        """Ray's own processes: of the head and of all nodes, except workers."""
        heads = [self._cluster.head_node, *self._nodes]
        started = [
            each.process.pid for node in heads for many in node.all_processes.values() for each in many
        ]
        workers = set(self.workers())
        return sorted({child for pid in started for child in (pid, *descendants(pid))} - workers)


@contextmanager
def s3_server() -> Iterator[str]:
    """The URL of an S3 server on this machine; credentials and address are put into the environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    os.environ |= {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "trial",
        "AWS_SECRET_ACCESS_KEY": "trial",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command = [sys.executable, "-m", "moto.server", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        yield url
    finally:
        server.kill()
        server.wait()


def _wait_for(port: int, seconds: float = 60) -> None:
    """Wait until a server accepts connections."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise TimeoutError(f"no server listens on port {port}")


def command_of(process: int) -> str:
    """The command line of a process; "" if it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def descendants(process: int) -> list[int]:
    """The children of a process and theirs."""
    children: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            children += map(int, (task / "children").read_text().split())
    return [each for child in children for each in (child, *descendants(child))]


def processor_seconds(processes: list[int]) -> float:
    """The processor time that processes have used; ended ones count as 0."""
    total = 0
    for process in processes:
        with suppress(OSError):
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")
