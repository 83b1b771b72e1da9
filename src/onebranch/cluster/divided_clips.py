"""Clips of a batch whose segments are tasks of their own: which tasks follow, and when they are joined."""

from dataclasses import dataclass, field, replace

from onebranch.cluster.tasks import PictureReport, PictureRow
from onebranch.enhancer.batch import Done
from onebranch.video.clip_division import ClipDivision


@dataclass
class DividedClip:
    """A clip that was divided. row: what the task that joins its segments enhances.

    unfinished: the numbers of the segments that are neither written nor refused. memory: bytes of every task.
    seconds: the sum of the times of its segments. refused: the number of the first segment that could not be
    written; the task that joins the clip writes it and all behind it.
    """

    row: PictureRow
    memory: int
    unfinished: set[int] = field(default_factory=set)
    seconds: float = 0.0
    refused: int | None = None


class DividedClips:
    """The clips of a batch that were divided and are not complete, by the index of their row."""

    def __init__(self) -> None:
        self._clips: dict[int, DividedClip] = {}

    def divide(self, row: PictureRow, division: ClipDivision) -> list[PictureRow]:
        """The rows of a clip's segments; if none is missing, the row that joins them."""
        joining = replace(row, is_divided=True, attempts=0)
        numbers = {segment.number for segment in division.segments}
        self._clips[row.index] = DividedClip(joining, division.memory, numbers)
        return [replace(joining, segment=segment) for segment in division.segments] or [joining]

    def memory(self, index: int) -> int:
        """The bytes of every task of a clip."""
        return self._clips[index].memory

    def is_wanted(self, row: PictureRow) -> bool:
        """False for a segment of a clip that has failed, and for one behind a segment that was refused."""
        if row.segment is None:
            return True
        clip = self._clips.get(row.index)
        return clip is not None and (clip.refused is None or row.segment.number < clip.refused)

    def finish_segment(self, row: PictureRow, written: bool, seconds: float) -> PictureRow | None:
        """The row that joins the segments, if this was the last unfinished one."""
        clip = self._clips.get(row.index)
        if clip is None or row.segment is None:
            return None
        number = row.segment.number
        clip.unfinished.discard(number)
        clip.seconds += seconds
        if not written:
            clip.refused = number if clip.refused is None else min(number, clip.refused)
        return None if clip.unfinished else clip.row

    def finish(self, report: PictureReport) -> PictureReport:
        """The report on a file; its time includes that of its segments."""
        clip = self._clips.pop(report.index, None)
        if clip is None or not isinstance(report.outcome, Done):
            return report
        outcome = replace(report.outcome, seconds=report.outcome.seconds + clip.seconds)
        return replace(report, outcome=outcome)
