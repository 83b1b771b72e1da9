"""What is known of a clip before it is enhanced, read from its header and its first frame."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onebranch.enhancer.options import Size
from onebranch.errors import OnebranchError
from onebranch.extras import require
from onebranch.video.colours import FULL_RANGE, LIMITED_RANGE, UNSPECIFIED, ColourTags, complete_tags
from onebranch.video.hdr import HdrMetadata, hdr_metadata
from onebranch.video.pixel_format import pixel_format
from onebranch.video.plane_enhancer import FrameLayout

if TYPE_CHECKING:
    from av import VideoFrame, VideoStream
    from av.container import InputContainer

PROGRESSIVE_ORDERS = (0, 1)
"""FFmpeg's field orders of clips that are not interlaced: unknown and progressive."""

MAX_PROBED_PACKETS = 500
"""Packets of the picture stream that are decoded until the first frame appears."""

FULL_RANGE_CODECS = ("rawvideo", "ffv1", "png", "mjpeg", "huffyuv", "ffvhuff", "utvideo", "magicyuv")
"""Codecs whose untagged grey is full range; broadcast codecs' is limited."""

SITING_ELEMENTS = (b"\x55\xb8\x81", b"\x55\xb7\x81")
"""Matroska's ChromaSitingVert and ChromaSitingHorz, of one byte: 1 is on the sample, 2 between samples."""

SITING_BY_ELEMENTS = {(1, 1): "topleft", (2, 1): "left", (2, 2): "center", (1, 2): "top"}
"""(vertical, horizontal) values of these elements -> siting."""


@dataclass(frozen=True)
class ClipProbe:
    """The picture stream of a clip.

    index: that of the stream. codec: FFmpeg's name. time_base: seconds of a tick of timestamps. start:
    timestamp of the file's start, in seconds. duration: seconds; 0 if unknown. frames: their number,
    estimated if the file does not state it; 0 if unknown. rate: average frames/s. aspect: sample aspect
    ratio; None if unknown. display_matrix: nine numbers that rotate and mirror the frames for display; empty:
    none.
    """

    path: Path
    container: str
    index: int
    codec: str
    layout: FrameLayout
    time_base: Fraction
    start: float
    duration: float
    frames: int
    rate: Fraction
    aspect: Fraction | None
    interlaced: bool
    display_matrix: tuple[int, ...]
    hdr: HdrMetadata

    @property
    def size(self) -> Size:
        """(height, width) of the frames as they are stored."""
        return self.layout.size


@contextmanager
def opened(path: Path) -> Iterator["InputContainer"]:
    """The file, opened by PyAV. Raises OnebranchError, in one line, if that is impossible."""
    require("video", "enhancing clips")
    import av

    av.logging.set_level(None)
    try:
        container = av.open(path, "r", metadata_errors="replace")
    except (av.error.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OnebranchError(f"cannot read the clip '{path}': {reason}") from None
    with container:
        yield container


def probe_clip(path: Path) -> ClipProbe:
    """The facts of a clip. Raises OnebranchError if the file cannot be read or has no picture stream."""
    with opened(path) as container:
        stream = picture_stream(container, path)
        siting = _chroma_siting(stream)
        frame = _first_frame(container, stream, path)
        context = stream.codec_context
        rate = stream.guessed_rate or stream.average_rate or Fraction(25)
        duration = _duration(container, stream)
        return ClipProbe(
            path=path,
            container=container.format.name,
            index=stream.index,
            codec=context.codec.canonical_name,
            layout=_layout(frame, stream, siting),
            time_base=stream.time_base or Fraction(1, 1000),
            start=_start(container),
            duration=duration,
            frames=stream.frames or round(duration * float(stream.average_rate or rate)),
            rate=rate,
            aspect=stream.sample_aspect_ratio or None,
            interlaced=frame.interlaced_frame or context.field_order not in PROGRESSIVE_ORDERS,
            display_matrix=_display_matrix(frame),
            hdr=hdr_metadata(frame),
        )


def picture_stream(container: "InputContainer", path: Path) -> "VideoStream":
    """The stream of moving pictures: the default one, or else the first; never cover art."""
    from av.stream import Disposition

    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise OnebranchError(f"'{path}' has no video stream; it has {_stream_words(container)}")
    preferred = [stream for stream in streams if stream.disposition & Disposition.default]
    stream = (preferred or streams)[0]
    if stream.codec_context is None:
        raise OnebranchError(
            f"the video codec of '{path}' is not known; convert it first, such as with ffmpeg"
        )
    return stream


def decoder_of(stream: "VideoStream") -> Any:
    """The decoder of a stream. VP8 and VP9 with alpha need libvpx: FFmpeg's own decoders ignore alpha."""
    import av

    context = stream.codec_context
    if context.name in ("vp8", "vp9") and stream.metadata.get("alpha_mode") == "1":
        decoder = av.CodecContext.create(f"libvpx-{context.name}" if context.name == "vp9" else "libvpx", "r")
        decoder.extradata = context.extradata
        return decoder
    context.thread_type = "AUTO"
    return context


def decoded(decoder: Any, packet: Any) -> Iterator["VideoFrame"]:
    """The frames that a packet makes ready; a packet without content gives the last ones."""
    yield from decoder.decode(packet if packet.size else None)


def _stream_words(container: "InputContainer") -> str:
    kinds = [stream.type for stream in container.streams]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)) or "no streams"


def _first_frame(container: "InputContainer", stream: "VideoStream", path: Path) -> "VideoFrame":
    import av

    decoder = decoder_of(stream)
    for count, packet in enumerate(container.demux(stream)):
        try:
            for frame in decoded(decoder, packet):
                return frame
        except av.error.FFmpegError:
            pass
        if count > MAX_PROBED_PACKETS:
            break
    raise OnebranchError(f"no frame of '{path}' can be decoded; it is damaged, or its codec is not known")


def _layout(frame: "VideoFrame", stream: "VideoStream", siting: str) -> FrameLayout:
    context = stream.codec_context
    wanted, full_by_name = pixel_format(frame.format.name)
    untagged_full = wanted.model == "grey" and context.codec.canonical_name in FULL_RANGE_CODECS
    ranges = (int(frame.color_range), int(context.color_range))
    stated = next((value for value in ranges if value in (LIMITED_RANGE, FULL_RANGE)), None)
    full = full_by_name or (untagged_full if stated is None else stated == FULL_RANGE)
    tags = ColourTags(
        full_range=full,
        matrix=_tag(frame.colorspace, context.colorspace),
        primaries=_tag(frame.color_primaries, context.color_primaries),
        transfer=_tag(frame.color_trc, context.color_trc),
        siting=siting or ("center" if full_by_name else "left"),
        guessed=() if stated is not None or full_by_name else ("range",),
    )
    if wanted.model != "rgb":
        tags = complete_tags(tags, frame.height, frame.width)
    return FrameLayout((frame.height, frame.width), wanted, tags)


def _tag(of_frame: Any, of_stream: Any) -> int:
    value = int(of_frame)
    return value if value != UNSPECIFIED else int(of_stream)


def _chroma_siting(stream: "VideoStream") -> str:
    """The chroma siting of a stream; empty if it is not stated.

    PyAV gives no access to it, but FFmpeg's Matroska muxer writes it into the header of a file.
    """
    import av

    content = io.BytesIO()
    try:
        with av.open(content, "w", format="matroska") as container:
            container.add_stream_from_template(stream, opaque=True)
            container.start_encoding()
            header = content.getvalue()
    except (av.error.FFmpegError, ValueError):
        return ""
    values = []
    for element in SITING_ELEMENTS:
        at = header.find(element)
        values.append(header[at + len(element)] if at >= 0 else 0)
    return SITING_BY_ELEMENTS.get((values[0], values[1]), "")


def _display_matrix(frame: "VideoFrame") -> tuple[int, ...]:
    sides: Any = frame.side_data
    for side in sides:
        if side.type.name == "DISPLAYMATRIX":
            return tuple(int(value) for value in np.frombuffer(bytes(side), "<i4"))
    return ()


def _start(container: "InputContainer") -> float:
    """The time at which the file starts; players show it as 0."""
    import av

    return (container.start_time or 0) / av.time_base


def _duration(container: "InputContainer", stream: "VideoStream") -> float:
    import av

    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / av.time_base
