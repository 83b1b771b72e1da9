"""Runs over clips: resumed, interrupted, killed, damaged; parts, previews, pipes, batches of mixed files."""

import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import onebranch
from clips import ClipSpec, contents, make_clip, packets, remuxed
from command_line import CommandLine
from onebranch.enhancer.options import Options
from onebranch.enhancer.single_file import FileOptions
from onebranch.errors import OnebranchError
from onebranch.model.file import write as save
from onebranch.video import encoding, segments
from onebranch.video.colours import ColourTags
from onebranch.video.containers import CONTAINER_BY_SUFFIX
from onebranch.video.hdr import HdrMetadata
from onebranch.video.options import VideoOptions
from onebranch.video.pipes import pipe_clip
from onebranch.video.pixel_format import PixelFormat
from onebranch.video.single_clip import enhance_clip
from onebranch.video.y4m import Y4mReader, Y4mWriter, parse_header
from test_video import DOUBLE, KEEP, enhance, enhanced

TINY = ClipSpec(pts=range(40), size=(32, 48), audio=["aac"], seconds=1.6)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """The command line, in this process."""
    return CommandLine(monkeypatch, capsys)


@pytest.fixture
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of 10 frames."""
    monkeypatch.setattr(segments, "SEGMENT_FRAMES", 10)


class Stopped:
    """A progress function that interrupts a run after some frames."""

    def __init__(self, frames: int, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.left, self.error = frames, error

    def __call__(self, share: float) -> None:
        """Count a frame."""
        self.left -= 1
        if self.left < 0:
            raise self.error


def shifted(times: list[Fraction]) -> list[Fraction]:
    """Times from the first one on.

    Matroska holds no negative times: with sound that begins before 0, as AAC in MP4 does, FFmpeg's muxer
    moves all streams by the same time.
    """
    return [time - times[0] for time in times]


def interrupted(source: Path, target: Path, frames: int, **options: Any) -> str:
    """Interrupt a run after some frames; what it says."""
    with pytest.raises(KeyboardInterrupt) as stop:
        enhance_clip(
            source,
            target,
            Options(model=DOUBLE),
            FileOptions(),
            VideoOptions(**options),
            progress=Stopped(frames),
        )
    return str(stop.value)


@pytest.mark.parametrize(("flags", "expected"), [({"avx512f"}, {"x264-params": "asm=avx2"}), ({"avx2"}, {})])
def test_x264_is_reproducible_on_processors_with_avx512(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], expected: dict[str, str]
) -> None:
    monkeypatch.setattr(encoding, "processor_flags", lambda: flags)
    chosen = encoding.choose_encoding(
        CONTAINER_BY_SUFFIX[".mkv"],
        PixelFormat("yuv", 8, (2, 2)),
        ColourTags(False, 1, 1, 1),
        HdrMetadata(),
        VideoOptions(codec="h264"),
        time_base=Fraction(1, 24),
        rate=Fraction(24),
        aspect=None,
        threads=1,
    )
    assert expected.items() <= encoding.encoder_options(chosen).items()
    assert ("x264-params" in encoding.encoder_options(chosen)) == bool(expected)


@pytest.mark.usefixtures("short_segments")
@pytest.mark.parametrize(("suffix", "frames"), [(".mp4", 25), (".mkv", 38)])
def test_a_resumed_run_gives_the_same_file(tmp_path: Path, suffix: str, frames: int) -> None:
    source = make_clip(tmp_path / "in.mp4", replace(TINY, pts=[3 * n + (n % 4 == 1) for n in range(40)]))
    whole, target = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    enhance(source, whole)
    assert "frames kept in" in interrupted(source, target, frames)
    assert not target.exists()
    with pytest.raises(OnebranchError, match="has left segments; continue it"):
        enhance(source, target)
    done = sorted(path.name for path in (tmp_path / f".out{suffix}.segments").iterdir())
    assert "000000.json" in done and "000001.mkv" in done
    assert enhance(source, target, resume=True).preview.frames == 40
    assert target.read_bytes() == whole.read_bytes()
    assert shifted(contents(target).times) == shifted(contents(source).times)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.usefixtures("short_segments")
def test_a_run_of_another_clip_or_options_is_not_continued(tmp_path: Path) -> None:
    source, target = make_clip(tmp_path / "in.mp4", TINY), tmp_path / "out.mkv"
    interrupted(source, target, 25)
    with pytest.raises(OnebranchError, match="of another clip or with other options"):
        enhance(source, target, resume=True, crf=30)
    enhance(source, target, overwrite=True)
    assert len(contents(target).times) == 40


@pytest.mark.usefixtures("short_segments")
def test_an_interrupt_leaves_a_playable_file_or_nothing(tmp_path: Path) -> None:
    source, target = make_clip(tmp_path / "in.mp4", TINY), tmp_path / "out.mp4"
    assert "nothing is left" in interrupted(source, target, 25, on_interrupt="discard")
    assert list(tmp_path.iterdir()) == [source]
    assert "holds the first" in interrupted(source, target, 25, on_interrupt="join")
    times = contents(target).times
    assert times == contents(source).times[: len(times)] and len(times) >= 10
    assert not list(tmp_path.glob(".*"))


def test_an_error_after_the_first_segment_keeps_it(tmp_path: Path, short_segments: None) -> None:
    source, target = make_clip(tmp_path / "in.mp4", TINY), tmp_path / "out.mkv"
    with pytest.raises(ZeroDivisionError):
        enhance_clip(
            source,
            target,
            Options(model=DOUBLE),
            FileOptions(),
            VideoOptions(),
            progress=Stopped(35, ZeroDivisionError),
        )
    enhance(source, target, resume=True)
    assert shifted(contents(target).times) == shifted(contents(source).times)


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.15, 0.6, 1.2])
def test_a_killed_run_is_resumed(tmp_path: Path, delay: float) -> None:
    """SIGKILL at any moment; the resumed run gives the file of an uninterrupted one, byte by byte."""
    source = make_clip(tmp_path / "in.mp4", replace(TINY, pts=range(900), size=(64, 96)))
    whole, target = tmp_path / "whole.mkv", tmp_path / "out.mkv"
    save(DOUBLE, tmp_path / "tiny.safetensors")
    command = [
        sys.executable,
        "-m",
        "onebranch",
        "enhance",
        str(source),
        "-m",
        str(tmp_path / "tiny.safetensors"),
    ]
    subprocess.run([*command, "-o", str(whole)], check=True, capture_output=True)
    for _ in range(3):
        process = subprocess.Popen([*command, "-o", str(target), "--resume"], stdout=subprocess.DEVNULL)
        folder = tmp_path / ".out.mkv.segments"
        while process.poll() is None and not folder.exists():
            time.sleep(0.01)
        time.sleep(delay)
        process.kill()
        process.wait()
        if target.exists():
            break
    if not target.exists():
        subprocess.run([*command, "-o", str(target), "--resume"], check=True, capture_output=True)
    assert target.read_bytes() == whole.read_bytes()
    assert len(contents(target).times) == 900


@pytest.mark.slow
def test_sound_does_not_drift_in_twenty_minutes(tmp_path: Path) -> None:
    """Every 24th frame of 20 minutes at 30000/1001 frames/s, which is quick, and all of the sound."""
    rate = Fraction(30000, 1001)
    pts = range(0, 20 * 60 * 30, 24)
    spec = ClipSpec(
        pts=pts,
        time_base=1 / rate,
        rate=rate,
        size=(16, 16),
        audio=["aac"],
        seconds=1201,
        sound_rate=8000,
    )
    source, target = enhanced(tmp_path, spec)
    with av.open(source) as before, av.open(target) as after:
        for one, other in zip(before.streams, after.streams, strict=True):
            assert (one.start_time, one.duration) == (other.start_time, other.duration)
    assert contents(target).times == [number / rate for number in pts]
    assert packets(target)[-1] == packets(source)[-1]


def test_interlaced_clips_warn_and_can_be_deinterlaced(tmp_path: Path) -> None:
    options = {"flags": "+ildct+ilme", "x264-params": "tff=1"}
    spec = ClipSpec(pts=range(6), size=(64, 64), options=options)
    source = make_clip(tmp_path / "in.mp4", spec)
    assert any("--deinterlace" in note for note in enhance(source, tmp_path / "a.mp4").preview.notes)
    notes = enhance(source, tmp_path / "b.mp4", deinterlace=True).preview.notes
    assert not any("--deinterlace" in note for note in notes)
    result = contents(tmp_path / "b.mp4")
    assert result.times == contents(source).times
    assert not any(frame.interlaced_frame for frame in result.frames)
    plain = contents(tmp_path / "a.mp4")
    assert any(np.any(a[0] != b[0]) for a, b in zip(result.planes, plain.planes, strict=True))


def test_a_change_of_resolution_is_survived(tmp_path: Path) -> None:
    parts = [
        make_clip(tmp_path / f"{n}.ts", ClipSpec(pts=[4 * n + i for i in range(4)], size=size))
        for n, size in enumerate([(32, 48), (64, 80)])
    ]
    source = tmp_path / "in.ts"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    target = tmp_path / "out.mkv"
    notes = enhance(source, target).preview.notes
    assert any("4 frames of another resolution" in note for note in notes)
    result = contents(target)
    assert len(result.times) == 8 and result.size == (64, 96)
    assert all(planes[0].shape == (64, 96) for planes in result.planes)


def test_a_damaged_packet_does_not_end_the_run(tmp_path: Path) -> None:
    clean = make_clip(
        tmp_path / "a.mkv", ClipSpec(pts=range(20), size=(64, 64), options={"g": "5", "bf": "0"})
    )
    content = bytearray(clean.read_bytes())
    with av.open(clean) as container:
        positions = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    at, size = positions[7]
    content[at + 6 : at + size] = bytes(255 for _ in range(size - 6))
    source = tmp_path / "in.mkv"
    source.write_bytes(content)
    result = enhance(source, tmp_path / "out.mkv")
    assert result.preview.frames >= 19
    assert any("damaged packet" in note or "decoded with errors" in note for note in result.preview.notes)
    assert len(contents(tmp_path / "out.mkv").times) == result.preview.frames


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk."""
    source = make_clip(tmp_path / "in.mkv", ClipSpec(codec="ffv1", pts=range(30), size=(64, 64)))
    save(DOUBLE, tmp_path / "tiny.safetensors")
    command = [
        "enhance",
        str(source),
        "-o",
        str(tmp_path / "o.mkv"),
        "--codec",
        "ffv1",
        "-m",
        str(tmp_path / "tiny.safetensors"),
    ]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    run = subprocess.run(
        [sys.executable, "-m", "onebranch", *command],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        check=False,
    )
    assert run.returncode == 1
    assert (
        run.stderr.count("\n") == 1
        and "cannot write" in run.stderr
        and "file too large" in run.stderr.lower()
    )
    assert not (tmp_path / "o.mkv").exists()


@pytest.mark.usefixtures("short_segments")
def test_temporary_bytes_are_bounded(tmp_path: Path) -> None:
    """No files of single frames: an encoded segment for ten frames, far smaller than decoded ones."""
    source, target = make_clip(tmp_path / "in.mp4", TINY), tmp_path / "out.mkv"
    interrupted(source, target, 39)
    files = [path for path in (tmp_path / ".out.mkv.segments").iterdir() if path.suffix == ".mkv"]
    assert len(files) <= 4
    assert sum(path.stat().st_size for path in files) < 40 * 64 * 96 * 1.5


@pytest.mark.parametrize("size", [(35, 51), (36, 51), (35, 52)])
@pytest.mark.parametrize(("kind", "codec"), [("yuv420p", "vp9"), ("yuv444p", "h264"), ("yuv420p", "h264")])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int], kind: str, codec: str) -> None:
    """A model of scale 1: the size stays where the codec takes it, and is rounded up, and said, elsewhere."""
    source = make_clip(
        tmp_path / "in.mkv", ClipSpec(codec="ffv1", pixel_format=kind, pts=range(2), size=size)
    )
    target = tmp_path / "out.mkv"
    notes = enhance(source, target, KEEP, codec=codec).preview.notes
    must_be_even = (kind, codec) == ("yuv420p", "h264")
    expected = tuple(side + side % 2 for side in size) if must_be_even else size
    assert contents(target).size == expected
    assert any("needs even sizes" in note for note in notes) == must_be_even


@pytest.mark.parametrize(
    ("size", "expected"), [({"scale": 1.5}, (48, 72)), ({"width": 60}, (40, 60)), ({"height": 50}, (50, 76))]
)
def test_sizes_are_as_for_pictures(tmp_path: Path, size: dict[str, Any], expected: tuple[int, int]) -> None:
    _, target = enhanced(tmp_path, ClipSpec(pts=range(2), size=(32, 48)), ".mp4 .mp4", **size)
    assert contents(target).size == expected


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_part_of_a_clip(tmp_path: Path, suffix: str) -> None:
    spec = ClipSpec(pts=range(50), size=(32, 48), audio=["aac"], seconds=2, options={"g": "12", "bf": "2"})
    source, target = make_clip(tmp_path / f"in{suffix}", spec), tmp_path / f"out{suffix}"
    enhance(source, target, start=0.6, end=1.2)
    assert contents(target).times == [Fraction(number, 25) for number in range(15)]
    sound = packets(target)
    assert 0 <= sound[0][0] < Fraction(3, 100) and sound[-1][0] < Fraction(6, 10)
    begin = Fraction(6, 10)
    kept = [(at - begin, content) for at, content in packets(source) if begin <= at < 2 * begin]
    assert [content for _, content in sound] == [content for _, content in kept]
    assert all(abs(one[0] - other[0]) <= Fraction(1, 1000) for one, other in zip(sound, kept, strict=True))
    enhance(source, target, frames=7, overwrite=True)
    assert len(contents(target).times) == 7


def test_results_keep_permissions_and_times(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", ClipSpec(pts=range(2), size=(32, 48)))
    source.chmod(0o640)
    os.utime(source, ns=(10**18, 10**18))
    files = FileOptions(keep_times=True)
    enhance_clip(source, tmp_path / "out.mp4", Options(model=DOUBLE), files, VideoOptions())
    status = (tmp_path / "out.mp4").stat()
    assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o640, 10**18)


def test_a_part_without_frames_is_refused(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", ClipSpec(pts=range(5), size=(32, 48)))
    with pytest.raises(OnebranchError, match=r"no frame .* in that part"):
        enhance(source, tmp_path / "out.mp4", start=60.0)
    assert list(tmp_path.iterdir()) == [source]


def test_previews_show_the_original_on_the_left(tmp_path: Path) -> None:
    spec = ClipSpec(codec="ffv1", pts=range(50), size=(32, 48))
    source, target = make_clip(tmp_path / "in.mkv", spec), tmp_path / "out.mkv"
    enhance(source, target, preview=0.4, codec="ffv1")
    enhance(source, tmp_path / "plain.mkv", start=0.8, end=1.2, codec="ffv1")
    result, plain = contents(target), contents(tmp_path / "plain.mkv")
    assert len(result.times) == len(plain.times) == 10
    for planes, others in zip(result.planes, plain.planes, strict=True):
        assert np.array_equal(planes[0][:, 50:], others[0][:, 50:])
        assert np.any(planes[0][:, :46] != others[0][:, :46])
        assert np.all(planes[0][:, 46:48] == 235)


def y4m(header: bytes, count: int) -> tuple[bytes, list[tuple[np.ndarray, ...]]]:
    """A stream of random frames, and their planes."""
    file = io.BytesIO()
    parsed = parse_header(header)
    writer, rng = Y4mWriter(file, parsed), np.random.default_rng(0)
    kind, frames = parsed.layout.pixel_format, []
    for _ in range(count):
        sizes = [kind.plane_size(index, *parsed.layout.size) for index in range(kind.plane_count)]
        planes = tuple(rng.integers(16, 235, size).astype(kind.dtype) for size in sizes)
        frames.append(planes)
        writer.write(planes)
    return file.getvalue(), frames


@pytest.mark.parametrize(
    "colours", ["420jpeg", "420mpeg2", "422p10", "444", "mono", "420p12", "444alpha", "420paldv"]
)
def test_y4m_streams(colours: str) -> None:
    content, frames = y4m(
        f"YUV4MPEG2 W34 H20 F30000:1001 Ip A16:15 C{colours} XCOLORRANGE=LIMITED".encode(), 3
    )
    read = Y4mReader(io.BytesIO(content))
    assert all(
        np.array_equal(a, b)
        for planes, others in zip(read.frames(), frames, strict=True)
        for a, b in zip(planes, others, strict=True)
    )
    target = io.BytesIO()
    assert pipe_clip(io.BytesIO(content), target, Options(model=DOUBLE), VideoOptions()) == 3
    result = Y4mReader(io.BytesIO(target.getvalue()))
    assert result.header.layout.size == (40, 68) and result.header.rate == Fraction(30000, 1001)
    assert result.header.layout.pixel_format == read.header.layout.pixel_format
    assert result.header.layout.tags.siting == read.header.layout.tags.siting
    assert result.header.aspect == Fraction(16, 15)
    assert len(list(result.frames())) == 3


def test_ffmpeg_reads_and_writes_our_streams(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", ClipSpec(codec="ffv1", pixel_format="yuv420p10le", pts=range(3)))
    file = tmp_path / "out.y4m"
    with file.open("wb") as target:
        pipe_clip(source, target, Options(model=DOUBLE), VideoOptions())
    enhance(source, tmp_path / "out.mkv", codec="ffv1")
    for planes, others in zip(contents(file).planes, contents(tmp_path / "out.mkv").planes, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(planes, others, strict=True))
    assert enhance(file, tmp_path / "again.mkv", KEEP).preview.frames == 3


def test_a_pipe_takes_no_dry_run() -> None:
    command = [sys.executable, "-m", "onebranch", "enhance", "-", "-o", "-", "--format", "y4m", "--dry-run"]
    result = subprocess.run(command, input=b"", capture_output=True, check=False)
    assert (result.returncode, result.stdout) == (2, b"")
    assert b"takes neither --dry-run nor --list" in result.stderr


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"RIFF....", "no Y4M stream"),
        (b"YUV4MPEG2 W0 H4 F25:1\n", "frames of 0x4"),
        (b"YUV4MPEG2 W4 F25:1\n", "cannot be read"),
        (b"YUV4MPEG2 W4 H4 F25:1 C419\n", "cannot be read"),
        (b"YUV4MPEG2 W4 H4 F25:1 C444foo\n", "cannot be read"),
        (b"YUV4MPEG2 W4 H4 F25:1 C444alpha10\n", "cannot be read"),
        (b"YUV4MPEG2 W4 H4 F25:1 C420alpha\n", "cannot be read"),
        (b"YUV4MPEG2 W4 H4 F25:1 Cmono99\n", "cannot be read"),
        (b"YUV4MPEG2 W4 H4 F-25:1\n", "frame rate -25"),
        (b"YUV4MPEG2 W4 H4 F25:1 X" + b"a" * 2000, "does not end within 1024 bytes"),
        (b"YUV4MPEG2 W4 H4 F25:1\nFRAME\n123", "ends inside frame 0"),
        (b"YUV4MPEG2 W4 H4 F25:1\nFRAMX\n123", "damaged at frame 0"),
        (b"YUV4MPEG2 W4 H4 F25:1\n", "no frames"),
    ],
)
def test_damaged_y4m_streams_are_one_line(content: bytes, reason: str) -> None:
    with pytest.raises(OnebranchError, match=reason):
        pipe_clip(io.BytesIO(content), io.BytesIO(), Options(model=DOUBLE), VideoOptions())


def test_y4m_pipes_on_the_command_line(tmp_path: Path) -> None:
    content, _ = y4m(b"YUV4MPEG2 W32 H16 F25:1 C420mpeg2", 4)
    save(DOUBLE, tmp_path / "tiny.safetensors")
    command = [sys.executable, "-m", "onebranch", "enhance", "-", "-o", "-", "--format", "y4m"]
    run = subprocess.run(
        [*command, "-m", str(tmp_path / "tiny.safetensors")], input=content, capture_output=True, check=True
    )
    assert len(list(Y4mReader(io.BytesIO(run.stdout)).frames())) == 4


def test_folders_of_clips_and_pictures(tmp_path: Path, run: CommandLine) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    make_clip(folder / "a.mp4", ClipSpec(pts=range(3), size=(32, 48)))
    make_clip(folder / "b.avi", ClipSpec(codec="mpeg4", pts=range(3), size=(32, 48)))
    (folder / "broken.mkv").write_bytes(b"nothing")
    onebranch.write_picture(onebranch.Picture(np.full((8, 12, 3), 90, np.uint8)), folder / "c.png")
    save(DOUBLE, tmp_path / "tiny.safetensors")
    command = [
        "enhance",
        folder,
        "-o",
        tmp_path / "out",
        "-m",
        tmp_path / "tiny.safetensors",
        "--resume",
        "--json",
    ]
    outcome = run(*command)
    assert outcome.code == 1, outcome.errors
    assert outcome.errors.count("\n") == 1 and "cannot read the clip" in outcome.errors
    lines = [json.loads(line) for line in outcome.output.splitlines()]
    assert [(Path(line["result"]).name, line["status"]) for line in lines[:-1]] == [
        ("a.mp4", "done"),
        ("b.mkv", "done"),
        ("broken.mkv", "failed"),
        ("c.png", "done"),
    ]
    assert lines[0]["frames"] == 3 and lines[0]["after"] == [96, 64]
    again = [json.loads(line) for line in run(*command).output.splitlines()]
    assert again[-1]["summary"]["skipped"] == 3 and again[-1]["summary"]["failed"] == 1
    (folder / "broken.mkv").unlink()
    text = run(*command[:-2], "--dry-run", "--overwrite")
    assert text.code == 0 and "1 picture and 2 clips would be enhanced" in text.output


def test_one_clip_on_the_command_line(tmp_path: Path, run: CommandLine) -> None:
    source = make_clip(tmp_path / "in.mp4", ClipSpec(pts=range(10), size=(32, 48)))
    outcome = run(
        "enhance", source, "-o", tmp_path / "big.mkv", "--to", "0:00.2", "--codec", "h265", "--crf", "30"
    )
    assert outcome.code == 0, outcome.errors
    assert "48x32 -> 96x64, 5 frames" in outcome.output and "photo-x2-int8 in engine, int8" in outcome.output
    assert ("video", "hevc") in contents(tmp_path / "big.mkv").streams
    assert "exists" in run("enhance", source, "-o", tmp_path / "big.mkv").errors
    assert run("enhance", source, "-o", tmp_path / "x.mkv", "--resume", "-q").code == 0
    refusals = [
        (["--codec", "h266"], "did you mean 'h265'"),
        (["--codec", "prores", "--crf", "3"], "no constant rate factor"),
        (["--crf", "99"], "crf must be 0 to 51"),
        (["--from", "x"], "is not a time"),
        (["--from", "3", "--to", "2"], "must end after its start"),
        (["--drop", "sound"], "unknown kind"),
        (["--on-interrupt", "x"], "unknown action"),
    ]
    for words, reason in refusals:
        outcome = run("enhance", source, "-o", tmp_path / "y.mkv", *words)
        assert outcome.code and reason in outcome.errors and outcome.errors.count("\n") == 1, outcome.errors
    assert (
        "cannot hold prores" in run("enhance", source, "-o", tmp_path / "y.mp4", "--codec", "prores").errors
    )
    assert "names no container" in run.refused("enhance", source, "-o", tmp_path / "y.png")


@pytest.mark.slow
def test_ctrl_c_on_the_command_line(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", replace(TINY, pts=range(3000)))
    save(DOUBLE, tmp_path / "tiny.safetensors")
    command = [sys.executable, "-m", "onebranch", "enhance", str(source), "-o", str(tmp_path / "out.mkv")]
    process = subprocess.Popen(
        [*command, "-m", str(tmp_path / "tiny.safetensors")], stderr=subprocess.PIPE, text=True
    )
    first = tmp_path / ".out.mkv.segments" / "000000.json"
    while process.poll() is None and not first.exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert errors.count("\n") == 1 and "continue with --resume" in errors
    assert not (tmp_path / "out.mkv").exists() and first.exists()
    assert (first.parent / "000000.mkv").exists()


def test_a_complete_clip_is_not_made_again(tmp_path: Path, run: CommandLine) -> None:
    source = make_clip(tmp_path / "in.mp4", replace(TINY, pts=range(3), audio=[]))
    command = ("enhance", source, "-o", tmp_path / "out.mkv", "--model", "photo-x2", "--resume")
    assert run(*command).code == 0
    again = run(*command)
    assert (again.code, "done before" in again.output) == (0, True)
    (tmp_path / "onebranch-out.mkv.jsonl").unlink()  # as after a first run without --resume
    assert run(*command).code == 0
    assert "other options" in run(*command, "--crf", "30").errors
    assert run(*command, "--dry-run").code == 0


def test_comparisons_of_clips_are_refused_before_the_first_frame(tmp_path: Path, run: CommandLine) -> None:
    make_clip(tmp_path / "in.mp4", replace(TINY, pts=range(3), audio=[]))
    refused = run.refused("enhance", tmp_path / "in.mp4", "-o", tmp_path / "out.mkv", "--compare", "c.png")
    assert "--preview" in refused
    assert not (tmp_path / "out.mkv").exists()


@pytest.mark.parametrize(("option", "kept"), [("--strip", set()), ("--strip-location", {"TITLE"})])
def test_metadata_and_locations_are_left_out(
    tmp_path: Path, run: CommandLine, option: str, kept: set[str]
) -> None:
    plain = make_clip(tmp_path / "plain.mkv", replace(TINY, pts=range(3)))
    where = {"title": "Lake", "location": "+47.6000+009.1000/"}
    source = remuxed(plain, tmp_path / "in.mkv", metadata=where, titles={1: "Comments"})
    assert run("enhance", source, "-o", tmp_path / "out.mkv", "--model", "photo-x2", option).code == 0
    with av.open(tmp_path / "out.mkv") as result:
        names = {key.upper() for key in result.metadata} - {"ENCODER"}
        assert names == kept
        assert ("title" in result.streams[1].metadata) == bool(kept)
