"""Small clips for tests, and what is in a clip."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from onebranch.video.pixel_format import PixelFormat, pixel_format
from onebranch.video.planes import Planes, frame_of, planes_of
from onebranch.video.probe import decoder_of
from onebranch.video.streams import ASS_HEADER

HEIGHT, WIDTH = 72, 128


@dataclass
class ClipSpec:
    """A clip to make. pts: timestamps in ticks of the time base. properties: of the encoder's context."""

    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    size: tuple[int, int] = (HEIGHT, WIDTH)
    pts: Sequence[int] = tuple(range(8))
    time_base: Fraction = Fraction(1, 25)
    rate: Fraction = Fraction(25)
    options: dict[str, str] = field(default_factory=dict)
    properties: dict[str, Any] = field(default_factory=dict)
    rotation: tuple[float, bool] | None = None
    audio: Sequence[str] = ()
    audio_start: float = 0.0
    seconds: float = 0.4
    sound_rate: int = 48000
    metadata: dict[str, str] = field(default_factory=dict)


def pattern(kind: PixelFormat, size: tuple[int, int], number: int) -> Planes:
    """The planes of a moving pattern: gradients, a bright square, some texture; studio range."""
    height, width = size
    unit = 1 << (kind.depth - 8)
    rows, columns = np.mgrid[:height, :width]
    texture = 6 * ((rows * 7 + columns * 3 + number) % 5)
    luma = (40 + (columns + 2 * number) % width * 120 // width + texture) * unit
    top, left = (3 * number) % max(1, height - 12), (5 * number) % max(1, width - 12)
    luma[top : top + 12, left : left + 12] = 210 * unit
    planes = [luma]
    for index in range(1, kind.plane_count):
        rows, columns = kind.plane_size(index, height, width)
        ramp = np.mgrid[:rows, :columns][index % 2] * 60 // max(rows, columns)
        planes.append((100 + ramp + 4 * number % 30) * unit)
    return tuple(plane.astype(kind.dtype) for plane in planes)


def make_clip(path: Path, spec: ClipSpec | None = None) -> Path:
    """Write the clip; its container by its suffix."""
    spec = spec or ClipSpec()
    quiet = {"x265-params": "log-level=none:bframes=0"} if spec.codec == "libx265" else {}
    with av.open(path, "w") as container:
        container.metadata.update(spec.metadata)
        stream = container.add_stream(
            spec.codec,
            rate=spec.rate,
            options={**quiet, **spec.options},
            height=spec.size[0],
            width=spec.size[1],
            pix_fmt=spec.pixel_format,
            time_base=spec.time_base,
        )
        stream.time_base = spec.time_base
        for name, value in spec.properties.items():
            setattr(stream.codec_context, name, value)
        if spec.rotation is not None:
            stream.set_display_rotation(spec.rotation[0], hflip=spec.rotation[1])
        tracks = [_audio(container, codec, index, spec.sound_rate) for index, codec in enumerate(spec.audio)]
        kind = pixel_format(spec.pixel_format)[0]
        for number, pts in enumerate(spec.pts):
            frame = frame_of(pattern(kind, spec.size, number), kind)
            frame.pts, frame.time_base = pts, spec.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        for track in tracks:
            _sound(container, track, spec)
    return path


def _audio(container: Any, codec: str, index: int, rate: int) -> Any:
    track = container.add_stream(codec, rate=rate)
    track.metadata["language"] = ("eng", "fra", "deu")[index]
    return track


def _sound(container: Any, track: Any, spec: ClipSpec) -> None:
    """A quiet tone."""
    context, rate = track.codec_context, spec.sound_rate
    size = context.frame_size or 1024
    begin = round(spec.audio_start * rate)
    wave = np.sin(np.arange(size) * 2 * np.pi / size * 20).astype(np.float32) / 8
    resampler = av.AudioResampler(context.format, context.layout, rate)
    for start in range(0, round(spec.seconds * rate), size):
        frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]), "fltp", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = rate, begin + start, Fraction(1, rate)
        for converted in resampler.resample(frame):
            container.mux(track.encode(converted))
    container.mux(track.encode(None))


@dataclass
class Contents:
    """What a clip holds. times: (seconds, duration in seconds) of every frame, exact."""

    planes: list[Planes]
    times: list[Fraction]
    pixel_format: str
    size: tuple[int, int]
    frames: list[Any]
    streams: list[tuple[str, str]]


def contents(path: Path) -> Contents:
    """Decode all frames of the first video stream that is not cover art."""
    with av.open(path) as container:
        stream = next(s for s in container.streams.video if not s.disposition & 1024)
        decoder: Any = decoder_of(stream)
        frames = []
        for packet in container.demux(stream):
            frames += decoder.decode(packet if packet.size else None)
        streams = [
            (s.type, s.codec_context.codec.canonical_name if s.codec_context else "")
            for s in container.streams
        ]
        kind = pixel_format(frames[0].format.name)[0]
        return Contents(
            planes=[planes_of(frame, kind) for frame in frames],
            times=[frame.pts * stream.time_base for frame in frames],
            pixel_format=frames[0].format.name,
            size=(frames[0].height, frames[0].width),
            frames=frames,
            streams=streams,
        )


def packets(path: Path, kind: str = "audio", index: int = 0) -> list[tuple[Fraction, bytes]]:
    """(time in seconds, content) of the packets of a stream."""
    with av.open(path) as container:
        stream = [s for s in container.streams if s.type == kind][index]
        return [(p.pts * p.time_base, bytes(p)) for p in container.demux(stream) if p.size]


def remuxed(source: Path, target: Path, **extras: Any) -> Path:
    """The streams of a clip in another file, with attachments, chapters, subtitles and so on."""
    with av.open(source) as before, av.open(target, "w") as after:
        after.metadata.update(before.metadata | extras.get("metadata", {}))
        copies = {}
        for stream in before.streams:
            copies[stream.index] = copy = after.add_stream_from_template(stream, opaque=True)
            copy.metadata.update(stream.metadata)
            copy.disposition = stream.disposition
        for index, disposition in extras.get("dispositions", {}).items():
            copies[index].disposition = disposition
        for index, title in extras.get("titles", {}).items():
            copies[index].metadata["title"] = title
        for name, mime, content in extras.get("attachments", ()):
            after.add_attachment(name, mime, content)
        if chapters := extras.get("chapters"):
            after.set_chapters(chapters)
        subtitles = [_subtitles(after, codec) for codec in extras.get("subtitles", ())]
        for packet in before.demux(*copies and [before.streams[i] for i in copies]):
            if packet.size:
                packet.stream = copies[packet.stream.index]
                after.mux(packet)
        for stream in subtitles:
            for number, text in enumerate(("Hello", "World")):
                after.mux(_subtitle_packet(stream, text, number))
    return target


def _subtitles(container: Any, codec: str) -> Any:
    stream = container.add_stream(codec, time_base=Fraction(1, 1000))
    stream.time_base = Fraction(1, 1000)
    stream.codec_context.subtitle_header = ASS_HEADER
    stream.metadata["language"] = "fra"
    return stream


def _subtitle_packet(stream: Any, text: str, number: int) -> Any:
    from av.subtitles.subtitle import SubtitleSet

    subtitle = SubtitleSet.create(f"{number},0,Default,,0,0,0,,{text}".encode(), 0, 80)
    packet = stream.codec_context.encode_subtitle(subtitle)
    packet.pts = packet.dts = 100 * number
    packet.duration, packet.time_base, packet.stream = 80, Fraction(1, 1000), stream
    return packet
