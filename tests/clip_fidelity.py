"""What enhancing keeps of clips, measured by container and codec: the tables of docs/reference/clips.md.

`scripts/clip_tables.py` puts them into the page, and `test_video_tables.py` compares the page with them.
"""

import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from clips import ClipSpec, contents, make_clip, remuxed
from network_specs import calm_model
from onebranch.enhancer.options import Options
from onebranch.enhancer.single_file import FileOptions
from onebranch.errors import OnebranchError
from onebranch.video.containers import CONTAINERS
from onebranch.video.options import VideoOptions
from onebranch.video.pixel_format import pixel_format
from onebranch.video.single_clip import enhance_clip

MODEL = calm_model(task="upscale", scale=2)

FORMATS = {
    "8-bit 4:2:0": "yuv420p",
    "4:2:2": "yuv422p",
    "4:4:4": "yuv444p",
    "10-bit": "yuv420p10le",
    "12-bit": "yuv420p12le",
    "grey": "gray",
    "RGB": "gbrp10le",
    "8-bit alpha": "yuva420p",
}
"""Names of columns and the pixel formats of the clips that are enhanced for them."""

AUDIO = ("aac", "ac3", "mp3", "opus", "flac", "pcm_s16le")

SUBTITLES = ("mov_text", "subrip", "ass", "webvtt")


def tables() -> dict[str, str]:
    """Every table by its name, in Markdown."""
    with tempfile.TemporaryDirectory() as folder:
        return {"formats": _formats(Path(folder)), "streams": _streams(Path(folder))}


def _enhance(source: Path, target: Path, **options: Any) -> None:
    target.unlink(missing_ok=True)
    enhance_clip(source, target, Options(model=MODEL), FileOptions(), VideoOptions(**options))


def _table(corner: str, columns: list[str], rows: dict[str, list[str]]) -> str:
    lines = [f"| {corner} | {' | '.join(columns)} |", f"| --- |{' --- |' * len(columns)}"]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()]
    return "\n".join(lines)


def _formats(folder: Path) -> str:
    """Which pixel formats arrive: yes, in a larger one, or refused."""
    sources = {
        kind: make_clip(folder / f"{kind}.mkv", ClipSpec("ffv1", kind, size=(64, 64), pts=range(1)))
        for kind in FORMATS.values()
    }
    rows = {}
    for container in CONTAINERS.values():
        for codec in container.codecs:
            target = folder / f"out{container.suffixes[0]}"
            cells = [_format_cell(source, target, kind, codec) for kind, source in sources.items()]
            rows[f"{container.suffixes[0]} {codec}"] = cells
    return _table("container, codec", list(FORMATS), rows)


def _format_cell(source: Path, target: Path, kind: str, codec: str) -> str:
    try:
        _enhance(source, target, codec=codec)
    except OnebranchError:
        return "–"
    arrived = contents(target).pixel_format
    return "yes" if arrived == kind else f"as {pixel_format(arrived)[0].words}"


def _streams(folder: Path) -> str:
    """What each container keeps beside the picture, in its first codec."""
    rows: dict[str, list[str]] = {}
    suffixes = [container.suffixes[0] for container in CONTAINERS.values()]
    for name, cell in _cells().items():
        rows[name] = [cell(folder, suffix) for suffix in suffixes]
    return _table("", suffixes, rows)


def _cells() -> dict[str, Callable[[Path, str], str]]:
    cells: dict[str, Callable[[Path, str], str]] = {
        "timestamps": _timestamps,
        "rotation, mirroring": _rotation,
        "pixel shape": _pixel_shape,
        "HDR10 metadata": _hdr,
        "chapters": _chapters,
        "attachments": _attachment,
        "cover art": _cover,
    }
    for codec in AUDIO:
        cells[f"audio: {codec}"] = _audio_cell(codec)
    for codec in SUBTITLES:
        cells[f"subtitles: {codec}"] = _subtitle_cell(codec)
    return cells


def _result(folder: Path, source: Path, suffix: str, **options: Any) -> Path | None:
    """The result; None if it is refused."""
    target = folder / f"result{suffix}"
    try:
        _enhance(source, target, **options)
    except OnebranchError:
        return None
    return target


def _timestamps(folder: Path, suffix: str) -> str:
    pts = [0, 1, 7, 300, 301]
    source = make_clip(folder / "t.mp4", ClipSpec(pts=pts, time_base=Fraction(1, 90000), size=(32, 48)))
    target = _result(folder, source, suffix)
    if target is None:
        return "–"
    exact = contents(target).times == [Fraction(tick, 90000) for tick in pts]
    shifted = [time - contents(target).times[0] for time in contents(target).times]
    if exact or shifted == [Fraction(tick, 90000) for tick in pts]:
        return "exact" if exact else "exact, moved"
    worst = max(abs(time - Fraction(tick, 90000)) for time, tick in zip(shifted, pts, strict=True))
    return "milliseconds" if worst <= Fraction(1, 1000) else "lost"


def _rotation(folder: Path, suffix: str) -> str:
    source = make_clip(folder / "r.mp4", ClipSpec(pts=range(1), size=(32, 48), rotation=(90, True)))
    target = _result(folder, source, suffix)
    if target is None:
        return "–"
    matrices = [
        [bytes(side) for side in contents(path).frames[0].side_data if side.type.name == "DISPLAYMATRIX"]
        for path in (source, target)
    ]
    return "yes" if matrices[0] == matrices[1] else "lost"


def _pixel_shape(folder: Path, suffix: str) -> str:
    properties = {"sample_aspect_ratio": Fraction(16, 15)}
    source = make_clip(folder / "s.mp4", ClipSpec(pts=range(1), size=(32, 48), properties=properties))
    target = _result(folder, source, suffix)
    if target is None:
        return "–"
    with av.open(target) as container:
        return "yes" if container.streams.video[0].sample_aspect_ratio == Fraction(16, 15) else "lost"


def _hdr(folder: Path, suffix: str) -> str:
    light = "hdr10=1:repeat-headers=1:max-cll=1000,400"
    spec = ClipSpec(
        "libx265",
        "yuv420p10le",
        (64, 64),
        range(1),
        options={"x265-params": f"log-level=none:bframes=0:{light}"},
        properties={"colorspace": 9, "color_primaries": 9, "color_trc": 16},
    )
    target = _result(folder, make_clip(folder / "h.mkv", spec), suffix)
    if target is None:
        return "–"
    names = [side.type.name for side in contents(target).frames[0].side_data]
    return "yes" if "CONTENT_LIGHT_LEVEL" in names else "lost"


def _plain(folder: Path, **options: Any) -> Path:
    return make_clip(folder / "plain.mkv", ClipSpec(pts=range(3), size=(32, 48), **options))


def _chapters(folder: Path, suffix: str) -> str:
    chapter = {"id": 1, "start": 0, "end": 90, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}}
    source = remuxed(_plain(folder), folder / "c.mkv", chapters=[chapter])
    target = _result(folder, source, suffix)
    if target is None:
        return "–"
    with av.open(target) as container:
        return "yes" if [c["metadata"]["title"] for c in container.chapters()] == ["One"] else "lost"


def _attachment(folder: Path, suffix: str) -> str:
    source = remuxed(_plain(folder), folder / "a.mkv", attachments=[("f.ttf", "font/ttf", b"font")])
    target = _result(folder, source, suffix)
    if target is None:
        return "–"
    with av.open(target) as container:
        kept = [stream.data for stream in container.streams if stream.type == "attachment"] == [b"font"]
        return "yes" if kept else "lost"


def _cover(folder: Path, suffix: str) -> str:
    picture = cover_picture()
    source = remuxed(_plain(folder), folder / "k.mkv", attachments=[("cover.jpg", "image/jpeg", picture)])
    target = _result(folder, source, suffix)
    if target is None:
        return "–"
    with av.open(target) as container:
        covers = [stream for stream in container.streams.video if stream.disposition & 1024]
        kept = [bytes(packet) for packet in container.demux(covers) if packet.size] if covers else []
        return "yes" if kept == [picture] else "lost"


def cover_picture() -> bytes:
    """A small JPEG."""
    encoder: Any = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 16, 16, "yuvj420p", Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), 90, np.uint8), "rgb24").reformat(
        format="yuvj420p"
    )
    frame.pts = 0
    return bytes(encoder.encode(frame)[0])


def _audio_cell(codec: str) -> Callable[[Path, str], str]:
    encoder = {"mp3": "libmp3lame", "opus": "libopus"}.get(codec, codec)

    def cell(folder: Path, suffix: str) -> str:
        target = _result(folder, _plain(folder, audio=[encoder]), suffix)
        return "–" if target is None else "copied"

    return cell


def _subtitle_cell(codec: str) -> Callable[[Path, str], str]:
    def cell(folder: Path, suffix: str) -> str:
        source = folder / ("u.mp4" if codec == "mov_text" else "u.mkv")
        target = _result(folder, remuxed(_plain(folder), source, subtitles=[codec]), suffix)
        if target is None:
            return "–"
        arrived = [name for kind, name in contents(target).streams if kind == "subtitle"]
        return "copied" if arrived == [codec] else f"as {arrived[0]}"

    return cell
