"""Streams of clips: copied, converted or refused, each on a small clip with a tiny network."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from clips import ClipSpec, contents, make_clip, packets, remuxed
from onebranch.errors import OnebranchError
from onebranch.video.containers import CONTAINERS
from onebranch.video.streams import _map_subtitles
from test_video import enhance, enhanced

SMALL = ClipSpec(pts=range(6), size=(32, 48))
MASTERING = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"


def texts(path: Path) -> list[tuple[Fraction, str]]:
    """(time, text) of the subtitles of the first subtitle stream."""
    with av.open(path) as container:
        stream = container.streams.subtitles[0]
        return [
            (packet.pts * packet.time_base, subtitle.dialogue.decode() or subtitle.text.decode())
            for packet in container.demux(stream)
            for subtitle in (packet.decode() if packet.size else ())
        ]


@pytest.mark.parametrize(
    ("codec", "before", "after", "expected"),
    [
        ("mov_text", ".mp4", ".mkv", "subrip"),
        ("mov_text", ".mp4", ".mp4", "mov_text"),
        ("ass", ".mkv", ".mp4", "mov_text"),
        ("subrip", ".mkv", ".mkv", "subrip"),
        ("ass", ".mkv", ".mkv", "ass"),
    ],
)
def test_text_subtitles_are_copied_or_converted(
    tmp_path: Path, codec: str, before: str, after: str, expected: str
) -> None:
    source = remuxed(make_clip(tmp_path / "a.mkv", SMALL), tmp_path / f"in{before}", subtitles=[codec])
    target = tmp_path / f"out{after}"
    notes = enhance(source, target).preview.notes
    assert ("subtitle", expected) in contents(target).streams
    assert texts(target) == texts(source) and [text for _, text in texts(target)] == ["Hello", "World"]
    assert any("converted" in note for note in notes) == (codec != expected)
    with av.open(target) as container:
        assert container.streams.subtitles[0].metadata["language"] == "fra"


def test_subtitles_that_a_container_cannot_hold_are_refused() -> None:
    with pytest.raises(OnebranchError, match=r"MP4 \(.mp4\) cannot hold hdmv_pgs_.* write .mkv or .ts"):
        _map_subtitles(2, "hdmv_pgs_subtitle", CONTAINERS["MP4"])
    assert _map_subtitles(2, "hdmv_pgs_subtitle", CONTAINERS["Matroska"]).action == "copy"
    with pytest.raises(OnebranchError, match=r"MPEG-TS \(.ts\) cannot hold ass subtitles"):
        _map_subtitles(2, "ass", CONTAINERS["MPEG-TS"])


def test_attachments_chapters_metadata_and_dispositions_stay(tmp_path: Path) -> None:
    font = bytes(range(256)) * 5
    chapters = [
        {"id": 1, "start": 0, "end": 120, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}},
        {"id": 2, "start": 120, "end": 240, "time_base": Fraction(1, 1000), "metadata": {"title": "Two"}},
    ]
    source = remuxed(
        make_clip(tmp_path / "a.mkv", ClipSpec(pts=range(6), size=(32, 48), audio=["aac", "ac3"])),
        tmp_path / "in.mkv",
        attachments=[("font.ttf", "font/ttf", font)],
        chapters=chapters,
        metadata={"title": "A film", "artist": "Nobody"},
        dispositions={1: 0, 2: 1 | 8},
        titles={2: "Commentary"},
    )
    target = tmp_path / "out.mkv"
    enhance(source, target)
    with av.open(source) as before, av.open(target) as after:
        attachments = [(s.name, s.mimetype, s.data) for s in after.streams if s.type == "attachment"]
        assert attachments == [("font.ttf", "font/ttf", font)]
        assert [(c["start"], c["end"], c["metadata"]) for c in after.chapters()] == [
            (c["start"], c["end"], c["metadata"]) for c in before.chapters()
        ]
        assert after.metadata["title"] == "A film" and after.metadata.get(
            "ARTIST", after.metadata.get("artist")
        )
        for one, other in zip(before.streams.audio, after.streams.audio, strict=True):
            assert (
                one.disposition == other.disposition
                and one.metadata["language"] == other.metadata["language"]
            )
        assert after.streams.audio[1].metadata["title"] == "Commentary"
    for index in range(2):
        assert packets(target, "audio", index) == packets(source, "audio", index)


def test_attachments_are_refused_by_mp4_before_the_first_frame(tmp_path: Path) -> None:
    source = remuxed(
        make_clip(tmp_path / "a.mkv", SMALL), tmp_path / "in.mkv", attachments=[("f.ttf", "font/ttf", b"1")]
    )
    with pytest.raises(OnebranchError, match=r"cannot hold the attachment 'f.ttf'; write .mkv"):
        enhance(source, tmp_path / "out.mp4")
    assert not list(tmp_path.glob(".*segments")) and not (tmp_path / "out.mp4").exists()
    enhance(source, tmp_path / "out.mp4", drop=("attachments",))
    assert len(contents(tmp_path / "out.mp4").times) == 6


def test_audio_that_a_container_cannot_hold_is_refused_before_the_first_frame(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", ClipSpec(pts=range(3), size=(32, 48), audio=["aac"]))
    with pytest.raises(OnebranchError, match=r"WebM \(.webm\) cannot hold aac audio; write .mp4 or .mov"):
        enhance(source, tmp_path / "out.webm")
    assert list(tmp_path.iterdir()) == [source]


def test_packets_are_interleaved(tmp_path: Path) -> None:
    spec = ClipSpec(pts=range(200), size=(32, 48), audio=["aac"], seconds=8)
    _, target = enhanced(tmp_path, spec, ".mkv .mp4")
    with av.open(target) as container:
        latest = {"video": Fraction(0), "audio": Fraction(0)}
        for packet in container.demux():
            if packet.size:
                latest[packet.stream.type] = packet.dts * packet.time_base
                assert abs(latest["video"] - latest["audio"]) < 1


COVER = av.VideoFrame.from_ndarray(np.full((16, 16, 3), 90, np.uint8), "rgb24")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_cover_art_is_kept_and_not_taken_for_the_video(tmp_path: Path, suffix: str) -> None:
    encoder: Any = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 16, 16, "yuvj420p", Fraction(1, 25)
    frame = COVER.reformat(format="yuvj420p")
    frame.pts = 0
    picture = bytes(encoder.encode(frame)[0])
    plain = make_clip(tmp_path / "a.mkv", SMALL)
    source = remuxed(plain, tmp_path / "in.mkv", attachments=[("cover.jpg", "image/jpeg", picture)])
    target = tmp_path / f"out{suffix}"
    enhance(source, target)
    assert len(contents(target).times) == 6 and contents(target).size == (64, 96)
    with av.open(target) as container:
        covers = [s for s in container.streams.video if s.disposition & 1024]
        assert [bytes(p) for p in container.demux(covers[0]) if p.size] == [picture]


@pytest.mark.parametrize("rotation", [(90, False), (180, False), (270, False), (0, True), (90, True)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_rotation_stays(tmp_path: Path, rotation: tuple[float, bool], suffix: str) -> None:
    spec = ClipSpec(pts=range(2), size=(32, 48), rotation=rotation)
    source, target = enhanced(tmp_path, spec, f".mp4 {suffix}")
    before, after = contents(source).frames[0], contents(target).frames[0]
    assert (
        [bytes(s) for s in before.side_data if s.type.name == "DISPLAYMATRIX"]
        == [bytes(s) for s in after.side_data if s.type.name == "DISPLAYMATRIX"]
        != []
    )


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".mp4", None), (".mkv", None), (".mp4", "vp9"), (".mov", "prores")]
)
def test_sample_aspect_ratio_stays(tmp_path: Path, suffix: str, codec: str | None) -> None:
    spec = ClipSpec(pts=range(2), size=(32, 48), properties={"sample_aspect_ratio": Fraction(16, 15)})
    _, target = enhanced(tmp_path, spec, f".mp4 {suffix}", codec=codec)
    with av.open(target) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(16, 15)


def test_width_and_height_keep_the_shape_in_which_a_clip_is_shown(tmp_path: Path) -> None:
    properties = {"sample_aspect_ratio": Fraction(16, 15)}
    spec = ClipSpec(pts=range(1), size=(36, 30), properties=properties)
    _, target = enhanced(tmp_path, spec, ".mp4 .mp4", width=64, height=72)
    with av.open(target) as container:
        assert container.streams.video[0].sample_aspect_ratio in (None, 1)
    with pytest.raises(OnebranchError, match=r"WebM .* cannot hold pixels that are not square"):
        enhance(tmp_path / "in.mp4", tmp_path / "out.webm")


@pytest.mark.parametrize(("codec", "suffix"), [("h265", ".mp4"), ("h265", ".mkv"), ("av1", ".mkv")])
def test_hdr10_metadata_arrive(tmp_path: Path, codec: str, suffix: str) -> None:
    parameters = (
        f"log-level=none:bframes=0:hdr10=1:repeat-headers=1:master-display={MASTERING}:max-cll=1000,400"
    )
    spec = ClipSpec(
        codec="libx265",
        pixel_format="yuv420p10le",
        pts=range(3),
        size=(64, 64),
        options={"x265-params": parameters},
        properties={"colorspace": 9, "color_primaries": 9, "color_trc": 16, "color_range": 1},
    )
    source, target = enhanced(tmp_path, spec, f".mkv {suffix}", codec=codec)
    before, after = contents(source).frames[0], contents(target).frames[0]
    assert (after.colorspace, after.color_primaries, after.color_trc) == (9, 9, 16)
    assert _hdr(after) == pytest.approx(_hdr(before), rel=2e-4, abs=1e-4)
    assert len(_hdr(after)) == 12


def _hdr(frame: Any) -> list[float]:
    from onebranch.video.hdr import hdr_metadata

    hdr = hdr_metadata(frame)
    assert hdr.display is not None and hdr.light_level is not None
    display = hdr.display
    points = [*display.red, *display.green, *display.blue, *display.white]
    return [float(v) for v in (*points, display.darkest, display.brightest, *hdr.light_level)]


@pytest.mark.parametrize(
    ("codec", "kind", "suffixes", "encoder"),
    [
        ("libvpx-vp9", "yuva420p", ".webm .webm", "vp9"),
        ("prores_ks", "yuva444p10le", ".mov .mov", "prores"),
        ("ffv1", "yuva444p12le", ".mkv .mkv", "ffv1"),
        ("ffv1", "gbrap10le", ".mkv .mkv", "ffv1"),
    ],
)
def test_alpha_stays(tmp_path: Path, codec: str, kind: str, suffixes: str, encoder: str) -> None:
    options = {"auto-alt-ref": "0"} if codec == "libvpx-vp9" else {}
    spec = ClipSpec(codec=codec, pixel_format=kind, pts=range(2), size=(64, 64), options=options)
    source, target = enhanced(tmp_path, spec, suffixes)
    before, after = contents(source), contents(target)
    assert after.pixel_format == before.pixel_format and len(after.planes[0]) == 4
    assert ("video", encoder) in after.streams
    white = np.iinfo(before.planes[0][3].dtype).max
    assert abs(float(before.planes[0][3].mean()) - float(after.planes[0][3].mean())) < 0.02 * white


def test_alpha_is_refused_where_it_would_be_lost(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", ClipSpec(codec="ffv1", pixel_format="yuva420p", pts=range(1)))
    with pytest.raises(OnebranchError, match=r"cannot hold 8-bit 4:2:0 with alpha .*vp9 in .mkv or .webm"):
        enhance(source, tmp_path / "out.mp4", codec="h264")
