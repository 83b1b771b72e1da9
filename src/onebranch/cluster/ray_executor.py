"""Tasks on a Ray cluster. Ray starts the workers, waits for cores and memory, and reports lost ones.

Ray's core tasks are used, not Ray Data, whose operators have one demand of cores and memory for all rows.
"""

import logging
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from onebranch.cluster.schedule import Capacity, CompletedTask
from onebranch.cluster.tasks import ClusterTask, PictureReport, PictureWorker, WorkerSetup
from onebranch.errors import OnebranchError
from onebranch.extras import require

LOCAL = "local"
"""The address that starts Ray on this machine."""

REFRESH_SECONDS = 2.0
"""The nodes of the cluster are asked for this often."""

CLOSE_SECONDS = 10.0
"""Time that running tasks have to remove their temporary files after an interrupt."""

CONNECT_SECONDS = 10.0
"""Time in which the head node must answer."""

HOST_AND_PORT = re.compile(r"(?:ray://)?\[?([^/\[\]]+)\]?:(\d{1,5})")
"""An address of a head node, such as 10.0.0.1:6379 or ray://head:10001."""

STANDARD_ERROR = 2
"""The descriptor of standard error."""

WORKERS: dict[str, PictureWorker] = {}
"""In a worker process: what enhances the pictures of the current run, by the key of its setup."""


def run_task(key: str, setups: list[Any], task: ClusterTask) -> tuple[list[PictureReport], float]:
    """Run a task in a worker process. setups: a reference to the setup, which is read once per process."""
    begin = time.perf_counter()
    if key not in WORKERS:
        import ray

        WORKERS.clear()
        WORKERS[key] = PictureWorker(ray.get(setups[0]))
    reports = WORKERS[key].reports(task)
    return reports, time.perf_counter() - begin


class RayExecutor:
    """Runs tasks on the cluster with that address ("local": on this machine). Raises OnebranchError.

    An address is that of the head node, such as 10.0.0.1:6379, "auto" on a machine of the cluster, or
    ray://10.0.0.1:10001 elsewhere.
    """

    def __init__(self, address: str, setup: WorkerSetup) -> None:
        self._address = address
        self._ray = connected(address)
        self._key, self._setups = setup.key, [self._ray.put(setup)]
        self._run = self._ray.remote(max_retries=0, scheduling_strategy="SPREAD")(run_task)
        self._running: dict[Any, ClusterTask] = {}
        self._refreshed, self._nodes = 0.0, Capacity(0, 0, 0)
        self.capacity()

    def capacity(self) -> Capacity:
        """The cores of all nodes, and the cores and memory of the largest node."""
        if time.monotonic() - self._refreshed > REFRESH_SECONDS:
            nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
            nodes = [node for node in nodes if node.get("CPU", 0) >= 1]
            if nodes:
                self._nodes = Capacity(
                    sum(int(node["CPU"]) for node in nodes),
                    max(int(node["CPU"]) for node in nodes),
                    max(int(node.get("memory", 0)) for node in nodes),
                )
            elif not self._nodes.cores:
                self._ray.shutdown()
                raise OnebranchError(
                    f"the Ray cluster '{self._address}' has no node with a core; start one, such as with:"
                    " ray start --address=HEAD:6379"
                )
            self._refreshed = time.monotonic()
        return self._nodes

    def submit(self, task: ClusterTask) -> None:
        """Start a task as soon as a node has its cores and its memory free."""
        run = self._run.options(num_cpus=task.cores, memory=task.memory)
        self._running[run.remote(self._key, self._setups, task)] = task

    def completed(self) -> list[CompletedTask]:
        """Wait until at least one task has ended, or nodes were asked again, and return those that have."""
        pending = list(self._running)
        done, _ = self._ray.wait(pending, num_returns=1, timeout=REFRESH_SECONDS)
        if done:
            done, _ = self._ray.wait(pending, num_returns=len(pending), timeout=0)
        completed = [self._completed(reference) for reference in done]
        return completed or self._impossible()

    def close(self) -> None:
        """Interrupt running tasks, which remove their temporary files, and disconnect."""
        with suppress(Exception):
            for reference in self._running:
                self._ray.cancel(reference, force=False)
            if self._running:
                self._ray.wait(list(self._running), num_returns=len(self._running), timeout=CLOSE_SECONDS)
        self._ray.shutdown()

    def _completed(self, reference: Any) -> CompletedTask:
        errors, task = self._ray.exceptions, self._running.pop(reference)
        try:
            return CompletedTask(task, *self._ray.get(reference))
        except errors.OutOfMemoryError:
            return CompletedTask(task, lost="its node ran out of memory", out_of_memory=True)
        except errors.RayTaskError as error:
            raise self._fault(error) from None
        except errors.LocalRayletDiedError:
            raise OnebranchError(
                f"the connection to the Ray cluster '{self._address}' was lost; continue with --resume"
            ) from None
        except errors.RayError as error:
            return CompletedTask(task, lost=_words(error))

    def _fault(self, error: Any) -> OnebranchError:
        """The error of a task that raised one: the node cannot run onebranch as this machine does."""
        cause = getattr(error, "cause", None)
        if isinstance(cause, OnebranchError):
            return OnebranchError(str(cause))
        name = type(cause or error).__name__
        return OnebranchError(
            f"a node of the Ray cluster cannot run onebranch: {name}: {_last_line(cause or error)}; install"
            " the same version of onebranch and its packages on all nodes"
        )

    def _impossible(self) -> list[CompletedTask]:
        """Tasks that no node can run any more, because the largest ones have gone."""
        self._refreshed = 0.0
        node = self.capacity()
        lost = [
            reference
            for reference, task in self._running.items()
            if task.cores > node.node_cores or task.memory > node.node_memory
        ]
        for reference in lost:
            self._ray.cancel(reference, force=False)
        return [CompletedTask(self._running.pop(one), lost="its node was lost") for one in lost]


def connected(address: str) -> Any:
    """The module `ray`, connected to a cluster. Raises OnebranchError if that is impossible."""
    require("cluster", "--cluster")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else Ray prints a warning about it
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # else it prints warnings beside our one line
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        options |= {"address": "local", "include_dashboard": False}
    else:
        options["address"] = address
    listens = False
    try:
        listens = _check_listening(address)
        with _signals_kept(), _no_native_messages():
            ray.init(**options)
    except Exception as error:  # each kind of connection has its own
        raise OnebranchError(_no_connection(address, listens, _last_line(error))) from None
    return ray


def _no_connection(address: str, listens: bool, reason: str) -> str:
    """The message about a cluster that cannot be reached or started. listens: something is at the address."""
    if address == LOCAL:
        return f"Ray does not start on this machine: {reason}; try again, or omit --cluster"
    advice = "name its head node, such as 10.0.0.1:6379 or ray://10.0.0.1:10001, or local for this machine"
    if listens:
        advice = "name its head node; if it was started with a token, set RAY_AUTH_MODE=token here too"
    return f"cannot connect to the Ray cluster '{address}': {reason}; {advice}"


def _check_listening(address: str) -> bool:
    """True if the address has a port where something listens; False if it has no port.

    Raises OSError if nothing listens there: Ray would try for half a minute.
    """
    match = HOST_AND_PORT.fullmatch(address)
    if match is None:
        return False
    socket.create_connection((match[1], int(match[2])), timeout=CONNECT_SECONDS).close()
    return True


@contextmanager
def _signals_kept() -> Iterator[None]:
    """A context after which SIGINT and SIGTERM are handled as before: Ray sets its own handlers."""
    try:
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        yield
    finally:
        with suppress(ValueError):  # not in the main thread
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def _no_native_messages() -> Iterator[None]:
    """A context in which nothing reaches standard error: Ray's native code announces its log level there."""
    kept = os.dup(STANDARD_ERROR)
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), STANDARD_ERROR)
        yield
    finally:
        os.dup2(kept, STANDARD_ERROR)
        os.close(kept)


def _words(error: Exception) -> str:
    """What has happened to a worker, in a few words."""
    name = type(error).__name__
    if "Node" in name or "Raylet" in name:
        return "its node was lost"
    return "its process ended" if "Crashed" in name else f"of {name}"


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
