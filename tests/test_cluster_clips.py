"""Clips on a cluster that is simulated: a task for each segment, with the bytes of one machine."""

import threading
from dataclasses import asdict, replace
from fractions import Fraction

import pytest

from clips import ClipSpec, contents, make_clip
from onebranch.cluster.cluster_batch import enhance_on_cluster
from onebranch.cluster.schedule import CompletedTask
from onebranch.enhancer.folders import BatchObserver, BatchOptions, enhance_files
from onebranch.enhancer.options import Options
from onebranch.enhancer.single_file import FileOptions
from onebranch.strict_json import dumps
from onebranch.video import clip_division, mixed_files, segments, single_clip
from onebranch.video.clip_division import divide_clip, frame_timestamps
from onebranch.video.decoding import ClipPart
from onebranch.video.mixed_files import MixedFiles
from onebranch.video.options import VideoOptions
from onebranch.video.probe import probe_clip
from onebranch.video.single_clip import clip_task
from test_cluster import LossyExecutor
from test_video import DOUBLE

pytest.importorskip("fsspec")

OPTIONS = Options(model=DOUBLE, threads=1)
B_FRAMES = {"bf": "3", "g": "12"}
VARIABLE = ClipSpec(
    pts=[3 * n + (n % 4 == 1) for n in range(45)],
    time_base=Fraction(1, 75),
    size=(32, 48),
    options=B_FRAMES,
    audio=["aac"],
    seconds=1.8,
)
"""45 frames with B-frames and a variable frame rate: 5 segments of 10 frames."""


@pytest.fixture(autouse=True)
def short_segments(monkeypatch):
    """Segments of 10 frames."""
    monkeypatch.setattr(segments, "SEGMENT_FRAMES", 10)


class SegmentExecutor(LossyExecutor):
    """Loses the workers of segments. lost: how often, by the number of the segment; None: of the join."""

    def __init__(self, lost=None, stop_after=None, after_work=False):
        super().__init__(stop_after=stop_after)
        self.lost, self.after_work, self.written = dict(lost or {}), after_work, []

    def completed(self):
        row = self.waiting[-1].rows[0]
        number = row.segment.number if row.segment else None
        is_divided = row.is_divided
        if is_divided and self.lost.get(number, 0):
            self.lost[number] -= 1
            task = self.waiting.pop()
            if self.after_work:
                self.worker.reports(task)
            return [CompletedTask(task, lost="its node was lost")]
        completed = super().completed()
        self.written += [report.written for report in completed[0].reports if number is not None]
        return completed

    @property
    def numbers(self):
        """The numbers of the segments that were tasks, in the order of submission."""
        return [row.segment.number for task in self.tasks for row in task.rows if row.segment]


def on_cluster(source, target, executor, video=None, *, resume=False, overwrite=False, observer=None):
    """Enhance one clip on a cluster that is simulated; the summary."""
    mixed = MixedFiles(replace(video or VideoOptions(), resume=resume))
    return enhance_on_cluster(
        [source],
        target,
        OPTIONS,
        FileOptions(overwrite=overwrite),
        address="fake",
        batch=BatchOptions(other=mixed.other_files(), resume=resume),
        observer=observer,
        enhance=mixed.enhance,
        preview=mixed.preview,
        clips=mixed,
        open_executor=executor,
    )


def on_one_machine(source, target, video=None):
    """Enhance one clip in this process; its outcome."""
    mixed = MixedFiles(video or VideoOptions())
    batch = BatchOptions(other=mixed.other_files())
    (outcome,) = enhance_files([source], target, OPTIONS, batch=batch, enhance=mixed.enhance).results
    return outcome


def assert_same(source, tmp_path, executor, suffix=".mp4", video=None):
    """The cluster writes the file of one machine, reports the same, and leaves nothing else."""
    (tmp_path / "out").mkdir()
    one, many = tmp_path / f"one{suffix}", tmp_path / "out" / f"many{suffix}"
    expected = on_one_machine(source, one, video)
    (outcome,) = on_cluster(source, many, executor, video).results
    assert outcome.preview == expected.preview
    assert many.read_bytes() == one.read_bytes()
    assert [path.name for path in many.parent.iterdir()] == [many.name]


@pytest.mark.parametrize(
    ("suffix", "changes"),
    [
        (".mp4", {}),
        (".mkv", {}),
        (".mkv", {"options": {**B_FRAMES, "x264-params": "open-gop=1"}}),
        (".mkv", {"codec": "libvpx-vp9", "options": {}}),
        (
            ".mkv",
            {"codec": "mpeg2video", "options": B_FRAMES, "pts": range(45), "time_base": Fraction(1, 25)},
        ),
    ],
)
def test_the_segments_of_a_clip_are_tasks(tmp_path, suffix, changes):
    source = make_clip(tmp_path / f"in{suffix}", replace(VARIABLE, **changes))
    executor = SegmentExecutor()
    assert_same(source, tmp_path, executor, suffix)
    assert executor.numbers == [0, 1, 2, 3, 4]
    assert executor.written == 5 * [True]
    assert len(executor.tasks) == 7


@pytest.mark.parametrize(
    ("part", "count"), [({"start": 0.5, "end": 1.5}, 3), ({"frames": 25}, 3), ({"preview": 1.0}, 3)]
)
def test_a_part_of_a_clip(tmp_path, part, count):
    executor = SegmentExecutor()
    assert_same(make_clip(tmp_path / "in.mp4", VARIABLE), tmp_path, executor, video=VideoOptions(**part))
    assert executor.numbers == list(range(count))
    assert executor.written == count * [True]


def test_the_boundaries_come_from_packets(tmp_path):
    probe = probe_clip(make_clip(tmp_path / "in.mp4", VARIABLE))
    timestamps = frame_timestamps(probe, ClipPart())
    assert [pts * probe.time_base for pts in timestamps] == contents(probe.path).times
    assert frame_timestamps(probe, ClipPart(timestamps[7], timestamps[30], 20)) == timestamps[7:27]
    ranges = segments.segment_ranges(timestamps)
    assert [(each.number, each.frames) for each in ranges] == [(0, 10), (1, 10), (2, 10), (3, 10), (4, 5)]
    assert [each.last for each in ranges] == [timestamps[n] for n in (9, 19, 29, 39, 44)]
    assert [each.after for each in ranges] == [None, *(each.last for each in ranges[:-1])]


def test_clips_that_are_one_task(tmp_path):
    def division(source, **options):
        return divide_clip(source, tmp_path / "out.mkv", OPTIONS, FileOptions(), VideoOptions(**options))

    source = make_clip(tmp_path / "in.mp4", VARIABLE)
    assert division(source, deinterlace=True) is None
    assert division(source, on_interrupt="join") is None
    assert division(source, frames=10) is None
    raw = make_clip(tmp_path / "in.h264", replace(VARIABLE, audio=()))
    assert frame_timestamps(probe_clip(raw), ClipPart()) == []
    assert division(raw) is None
    assert not list(tmp_path.glob(".*"))
    assert len(division(source, frames=11).segments) == 2


def test_a_clip_at_a_url_is_one_task(tmp_path):
    executor = SegmentExecutor()
    source = make_clip(tmp_path / "in.mp4", VARIABLE)
    (outcome,) = on_cluster(source, "memory://bucket/out.mp4", executor).results
    assert (outcome.preview.frames, len(executor.tasks)) == (45, 1)


@pytest.mark.parametrize("after_work", [False, True])
@pytest.mark.parametrize("number", [0, 3, None])
def test_lost_workers(tmp_path, number, after_work):
    executor = SegmentExecutor({number: 1 if number is None else 3}, after_work=after_work)
    assert_same(make_clip(tmp_path / "in.mp4", VARIABLE), tmp_path, executor)
    assert not any(executor.lost.values())


def test_a_segment_that_ends_its_workers_fails_its_clip(tmp_path):
    source, target = make_clip(tmp_path / "in.mp4", VARIABLE), tmp_path / "out.mp4"
    (failure,) = on_cluster(source, target, SegmentExecutor({2: 9})).results
    assert "its worker was lost 5 times" in failure.reason
    executor = SegmentExecutor()
    (outcome,) = on_cluster(source, target, executor, resume=True).results
    assert outcome.preview.frames == 45
    assert executor.numbers == [2]
    on_one_machine(source, tmp_path / "one.mp4")
    assert target.read_bytes() == (tmp_path / "one.mp4").read_bytes()


class FirstInFirstOut(SegmentExecutor):
    """Completes tasks in the order in which they were submitted."""

    def completed(self):
        self.waiting.append(self.waiting.pop(0))
        return super().completed()


def test_a_clip_fails_once(tmp_path):
    """Segments that are lost after their clip has failed are no further failures."""
    shares = []
    observer = BatchObserver(progress=lambda job, share: shares.append(share))
    source = make_clip(tmp_path / "in.mp4", VARIABLE)
    executor = FirstInFirstOut(dict.fromkeys(range(5), 9))
    (failure,) = on_cluster(source, tmp_path / "out.mp4", executor, observer=observer).results
    assert "its worker was lost 5 times" in failure.reason
    assert shares == [1.0]


def test_tasks_encode_alike_on_machines_of_different_cores(tmp_path, monkeypatch):
    cores = iter(range(2, 16))
    monkeypatch.setattr(single_clip, "cores", lambda: next(cores))
    executor = SegmentExecutor()
    executor.after = {"in.mp4": 1}
    source = make_clip(tmp_path / "in.mp4", VARIABLE)
    (outcome,) = on_cluster(source, tmp_path / "out.mp4", executor).results
    assert outcome.preview.frames == 45
    assert executor.written == 5 * [True]


@pytest.mark.parametrize("seconds", [60.0, 0.0])
def test_tasks_wait_for_the_lock_of_a_lost_one(tmp_path, monkeypatch, seconds):
    """A file server may keep the lock of a node for a while."""
    monkeypatch.setattr(mixed_files, "LOCK_SECONDS", seconds)
    source, target = make_clip(tmp_path / "in.mp4", VARIABLE), tmp_path / "out.mp4"
    with clip_task(source, target, OPTIONS, FileOptions(), VideoOptions()).segment_folder() as folder:
        timer = threading.Timer(0.5, folder.__exit__)
        if seconds:
            timer.start()
        (outcome,) = on_cluster(source, target, SegmentExecutor(), resume=True).results
    if seconds:
        assert outcome.preview.frames == 45
    else:
        assert "another run is writing" in outcome.reason


def test_a_fault_in_the_division_of_a_clip_leaves_the_clip_to_one_task(tmp_path, monkeypatch):
    def fault(*arguments):
        raise ValueError("no valid packet")

    monkeypatch.setattr(clip_division, "divide_clip", fault)
    executor = SegmentExecutor()
    assert_same(make_clip(tmp_path / "in.mp4", VARIABLE), tmp_path, executor)
    assert len(executor.tasks) == 1


@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_driver_that_is_interrupted_leaves_complete_segments(tmp_path, elsewhere):
    source, target = make_clip(tmp_path / "in.mp4", VARIABLE), tmp_path / "out.mp4"
    with pytest.raises(KeyboardInterrupt):
        on_cluster(source, target, SegmentExecutor(stop_after=4))
    folder = tmp_path / ".out.mp4.segments"
    complete = {path.name: path.stat().st_ino for path in folder.glob("0*")}
    assert sorted(complete) == ["000003.json", "000003.mkv", "000004.json", "000004.mkv"]
    (refused,) = on_cluster(source, target, SegmentExecutor()).results
    assert "has left segments; continue it (--resume)" in refused.reason
    executor = SegmentExecutor(stop_after=4)
    if elsewhere:
        with pytest.raises(KeyboardInterrupt):
            on_cluster(source, target, executor, resume=True)
        assert executor.numbers == [0, 1, 2]
        assert complete.items() <= {path.name: path.stat().st_ino for path in folder.glob("0*")}.items()
        on_cluster(source, target, SegmentExecutor(), resume=True)
    else:
        on_one_machine(source, target, VideoOptions(resume=True))
    on_one_machine(source, tmp_path / "one.mp4")
    assert target.read_bytes() == (tmp_path / "one.mp4").read_bytes()
    assert not folder.exists()


def test_frames_that_are_not_the_predicted_ones(tmp_path, monkeypatch):
    """The joining task writes the segments from the first wrong one on."""

    def mispredicted(probe, part):
        return [pts for n, pts in enumerate(frame_timestamps(probe, part)) if n != 24]

    monkeypatch.setattr(clip_division, "frame_timestamps", mispredicted)
    executor = SegmentExecutor()
    assert_same(make_clip(tmp_path / "in.mp4", VARIABLE), tmp_path, executor)
    assert sorted(executor.written) == [False, True, True, True, True]


def test_a_refused_segment_stops_those_behind_it(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        return arguments[5].number != 2 and enhance(*arguments, **options)

    enhance = clip_division.enhance_segment
    monkeypatch.setattr(clip_division, "enhance_segment", refuse)
    executor = SegmentExecutor()
    executor.nodes = replace(executor.nodes, cores=1)
    assert_same(make_clip(tmp_path / "in.mp4", VARIABLE), tmp_path, executor)
    assert len(executor.tasks) < 7


def test_segments_of_differently_decoded_frames_are_not_joined(tmp_path):
    source, target = make_clip(tmp_path / "in.mp4", VARIABLE), tmp_path / "out.mp4"
    with pytest.raises(KeyboardInterrupt):
        on_cluster(source, target, SegmentExecutor(stop_after=7))
    task = clip_task(source, target, OPTIONS, FileOptions(), VideoOptions(resume=True))
    with task.segment_folder() as folder:
        assert [segment.number for segment in folder.segments()] == [0, 1, 2, 3, 4]
        other = replace(folder.segment(3), digest_before="other")
        (folder.path / "000003.json").write_text(dumps(asdict(other)))
        assert folder.segments() == []
    executor = SegmentExecutor()
    on_cluster(source, target, executor, resume=True)
    assert executor.numbers == [0, 1, 2, 3, 4]
    on_one_machine(source, tmp_path / "one.mp4")
    assert target.read_bytes() == (tmp_path / "one.mp4").read_bytes()


def test_a_damaged_clip_has_the_problems_of_one_machine(tmp_path):
    source = make_clip(tmp_path / "whole.mkv", replace(VARIABLE, options={"g": "5", "bf": "0"}, audio=()))
    content = bytearray(source.read_bytes())
    for offset in range(len(content) // 2, len(content) // 2 + 300, 3):
        content[offset] ^= 0xFF
    damaged = tmp_path / "in.mkv"
    damaged.write_bytes(bytes(content))
    executor = SegmentExecutor()
    assert_same(damaged, tmp_path, executor, ".mkv")
    assert on_one_machine(damaged, tmp_path / "again.mkv").preview.notes
    assert False in executor.written and True in executor.written


def test_a_worker_that_is_lost_after_it_has_divided_a_clip(tmp_path):
    executor = SegmentExecutor()
    executor.after = {"in.mp4": 1}
    assert_same(make_clip(tmp_path / "in.mp4", VARIABLE), tmp_path, executor)
    assert executor.written == 5 * [True]


def test_a_result_and_segments_of_another_clip_are_replaced_on_request(tmp_path):
    source, target = make_clip(tmp_path / "in.mp4", VARIABLE), tmp_path / "out.mp4"
    other = make_clip(tmp_path / "other.mp4", replace(VARIABLE, options={}))
    with pytest.raises(KeyboardInterrupt):
        on_cluster(other, target, SegmentExecutor(stop_after=4))
    target.write_bytes(b"before")
    (refused,) = on_cluster(source, target, SegmentExecutor()).results
    assert "it exists" in refused.reason
    executor = SegmentExecutor()
    on_cluster(source, target, executor, overwrite=True)
    on_one_machine(source, tmp_path / "one.mp4")
    assert target.read_bytes() == (tmp_path / "one.mp4").read_bytes()
    assert executor.written == 5 * [True]
