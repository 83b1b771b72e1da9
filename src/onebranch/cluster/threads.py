"""Tasks in threads of this process: URLs are enhanced on one machine without Ray."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from onebranch.cluster.schedule import Capacity, CompletedTask
from onebranch.cluster.tasks import ClusterTask, PictureReport, PictureWorker, WorkerSetup
from onebranch.enhancer.memory_budget import MemoryBudget
from onebranch.runtime.cores import cores
from onebranch.runtime.memory import memory_limit


class ThreadExecutor:
    """Runs as many tasks as there are `jobs`. progress: called with the share of the picture at an index."""

    def __init__(
        self,
        setup: WorkerSetup,
        jobs: int,
        progress: Callable[[int, float], None] = lambda index, share: None,
    ) -> None:
        self._jobs, self._progress = jobs, progress
        self._memory = memory_limit(setup.options.options.memory)
        self._budget = MemoryBudget(self._memory)
        self._stopped = threading.Event()
        self._worker = PictureWorker(setup, self._report_progress)
        self._pool = ThreadPoolExecutor(jobs, "picture")
        self._running: dict[Future[tuple[list[PictureReport], float]], ClusterTask] = {}

    def capacity(self) -> Capacity:
        """The cores of this machine, of which every task has its share."""
        return Capacity(self._jobs, max(1, cores() // self._jobs), self._memory // self._jobs)

    def submit(self, task: ClusterTask) -> None:
        """Start a task when a thread and its memory are free."""
        self._running[self._pool.submit(self._run, task)] = task

    def completed(self) -> list[CompletedTask]:
        """Wait until at least one task has ended, and return those that have."""
        done, _ = wait(self._running, return_when=FIRST_COMPLETED)
        return [CompletedTask(self._running.pop(future), *future.result()) for future in done]

    def close(self) -> None:
        """Stop all tasks; pictures in progress are aborted."""
        self._stopped.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, task: ClusterTask) -> tuple[list[PictureReport], float]:
        with self._budget.reserve(task.memory):
            begin = time.perf_counter()
            reports = self._worker.reports(task)
            return reports, time.perf_counter() - begin

    def _report_progress(self, index: int, share: float) -> None:
        if self._stopped.is_set():
            raise KeyboardInterrupt
        self._progress(index, share)
