"""The schedule of a batch on many machines: which pictures form a task, and what follows a lost worker.

Nothing here knows Ray: an `Executor` runs tasks, and tests use one that loses them.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Protocol

from onebranch.cluster.divided_clips import DividedClips
from onebranch.cluster.tasks import ClusterTask, PictureReport, PictureRow
from onebranch.enhancer.batch import Failed
from onebranch.errors import OnebranchError

MAX_ATTEMPTS = 5
"""Number of workers that may be lost while they enhance one picture, before it is reported as failed."""

TASK_SECONDS = 0.5
"""Small pictures are grouped so that a task takes about this long: scheduling a task takes milliseconds."""

MAX_PICTURES_PER_TASK = 64
"""Largest number of pictures of a task; all of them are repeated when its worker is lost."""

TASKS_PER_CORE = 2
"""Number of tasks that are submitted per core, so that a worker that becomes free has the next one."""


@dataclass(frozen=True)
class Capacity:
    """What the machines have. cores: of all nodes. node_cores, node_memory: of the largest node, in bytes."""

    cores: int
    node_cores: int
    node_memory: int

    @property
    def core_memory(self) -> int:
        """The bytes for a task with one core."""
        return max(1, self.node_memory // max(1, self.node_cores))


@dataclass(frozen=True)
class CompletedTask:
    """A task that has ended. seconds: that it took. lost: why its worker was lost, in a few words; else "".

    out_of_memory: the worker was lost because its node had too little memory.
    """

    task: ClusterTask
    reports: Sequence[PictureReport] = ()
    seconds: float = 0.0
    lost: str = ""
    out_of_memory: bool = False


class Executor(Protocol):
    """Runs tasks on workers."""

    def capacity(self) -> Capacity:
        """What the machines have now."""
        ...

    def submit(self, task: ClusterTask) -> None:
        """Start a task as soon as cores and memory are free."""
        ...

    def completed(self) -> list[CompletedTask]:
        """Wait until at least one task has ended, and return those that have."""
        ...

    def close(self) -> None:
        """Stop all tasks, without leaving partial files."""
        ...


class BatchSchedule:
    """Runs all rows of a batch. threads: cores of every task; None: by the number and size of pictures.

    max_tasks: limit of the tasks at the same time; None: by the number of cores.
    """

    def __init__(
        self,
        rows: Sequence[PictureRow],
        executor: Executor,
        threads: int | None = None,
        max_tasks: int | None = None,
    ) -> None:
        self._waiting, self._executor = deque(rows), executor
        self._again: deque[ClusterTask] = deque()
        self._threads, self._max_tasks = threads, max_tasks
        self._running, self._count = 0, len(rows)
        self._pictures, self._seconds = 0, 0.0
        self._clips = DividedClips()
        self._capacity = executor.capacity()

    def reports(self) -> Iterator[list[PictureReport]]:
        """The reports on all pictures, each once, as tasks complete."""
        while self._waiting or self._again or self._running:
            self._capacity = self._executor.capacity()
            self._submit()
            for completed in self._executor.completed() if self._running else ():
                self._running -= 1
                reports = list(self._reports_of(completed))
                if reports:
                    yield reports

    def _submit(self) -> None:
        """Submit tasks until enough of them run."""
        limit = self._max_tasks or max(2, TASKS_PER_CORE * self._capacity.cores)
        while self._running < limit and (task := self._next_task()) is not None:
            self._running += 1
            self._executor.submit(task)

    def _next_task(self) -> ClusterTask | None:
        """The next task; None if none waits."""
        while self._again:
            task = self._again.popleft()
            if self._clips.is_wanted(task.rows[0]):
                return task
            self._finish_segment(task.rows[0], False, 0.0)
        if not self._waiting:
            return None
        size = min(self._group_size(), len(self._waiting))
        rows = tuple(self._waiting.popleft() for _ in range(size))
        return self._task(rows, self._cores(), 0)

    def _cores(self) -> int:
        """Cores of a task: its share if there are fewer pictures than cores, else 1."""
        if self._threads is not None:
            return min(self._threads, self._capacity.node_cores)
        share = self._capacity.cores // max(1, self._count)
        return max(1, min(share, self._capacity.node_cores))

    # Example: 64 pictures have taken 3.2 s, 0.05 s each, so 10 of them take the 0.5 s of a task. If only 12
    # are waiting and there are 4 cores, a task has 12 / (2 * 4) = 1.5, rounded up to 2 pictures.
    def _group_size(self) -> int:
        """Number of pictures of the next task."""
        if not self._pictures:
            return 1
        by_time = TASK_SECONDS * self._pictures / max(self._seconds, 1e-6)
        by_rest = ceil(len(self._waiting) / (TASKS_PER_CORE * max(1, self._capacity.cores)))
        return max(1, min(int(by_time), by_rest, MAX_PICTURES_PER_TASK))

    # Example: a node has 8 cores and 16 GB. A picture that needs 5 GB gets the cores of that memory: 5 / 16
    # of 8 cores are 2.5, rounded up to 3. One that needs 20 GB gets the node: 8 cores and 16 GB.
    def _task(self, rows: tuple[PictureRow, ...], cores: int, memory: int) -> ClusterTask:
        """A task for pictures that need `memory` bytes; 0: the share of its cores."""
        node = self._capacity
        if self._threads is None:
            cores = max(cores, ceil(memory / node.core_memory))
        cores = max(1, min(cores, node.node_cores))
        return ClusterTask(rows, cores, min(max(memory, cores * node.core_memory), node.node_memory))

    def _reports_of(self, completed: CompletedTask) -> Iterator[PictureReport]:
        """The final reports of a task that has ended; its other pictures are submitted again."""
        if completed.lost:
            yield from self._lost(completed)
            return
        rows = {row.index: row for row in completed.task.rows}
        for report in completed.reports:
            row = rows[report.index]
            if report.outcome is not None:
                yield self._clips.finish(report)
            elif report.memory:
                self._again.append(self._larger_task(row, report.memory))
            elif report.division is not None:
                segments = self._clips.divide(row, report.division)
                self._count += len(segments) - 1
                self._again += [self._larger_task(one, report.division.memory) for one in segments]
            else:
                self._finish_segment(row, report.written, completed.seconds)
        if not any(row.segment for row in completed.task.rows):
            self._pictures += len(completed.reports)
            self._seconds += completed.seconds

    def _finish_segment(self, row: PictureRow, written: bool, seconds: float) -> None:
        """Submit the task that joins the segments of a clip, if this was the last one."""
        self._count -= 1
        joining = self._clips.finish_segment(row, written, seconds)
        if joining is not None:
            self._count += 1
            self._again.append(self._larger_task(joining, self._clips.memory(row.index)))

    def _larger_task(self, row: PictureRow, memory: int) -> ClusterTask:
        """A task for a picture that needs `memory` bytes; if no node has them, all of the largest node."""
        task = self._task((row,), self._cores(), memory)
        return replace(task, unlimited=memory > task.memory)

    def _repeated(self, lost: CompletedTask, row: PictureRow) -> ClusterTask:
        """A task for one picture of a lost one, on the nodes that there are now."""
        node, task = self._capacity, lost.task
        wanted = 2 * task.memory if lost.out_of_memory else task.memory
        cores, memory = min(task.cores, node.node_cores), min(wanted, node.node_memory)
        return ClusterTask((row,), cores, memory, task.unlimited or memory < task.memory)

    def _lost(self, completed: CompletedTask) -> Iterator[PictureReport]:
        """Submit every picture of a lost task alone, so that one that ends its worker fails alone."""
        for row in completed.task.rows:
            if not self._clips.is_wanted(row):
                self._finish_segment(row, False, 0.0)
                continue
            row = replace(row, attempts=row.attempts + 1)
            if row.attempts < MAX_ATTEMPTS:
                self._again.append(self._repeated(completed, row))
                continue
            reason = (
                f"'{row.source}': its worker was lost {row.attempts} times, the last time because"
                f" {completed.lost}"
            )
            yield self._clips.finish(PictureReport(row.index, Failed(row.job, str(OnebranchError(reason)))))
