"""Streams besides the picture, copied unchanged: audio, subtitles, attachments, cover art, chapters.

Text subtitles are converted if the container can hold only another kind. Streams that it cannot hold at all
are refused before the first frame; the message names the containers that can.
"""

import io
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

from onebranch.errors import OnebranchError
from onebranch.video.clip_metadata import MetadataFilter
from onebranch.video.containers import CONTAINERS, Container

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer

TEXT_SUBTITLES = frozenset(("mov_text", "subrip", "srt", "ass", "ssa", "webvtt", "text"))

COPIED_SUBTITLES = {
    "MP4": frozenset(("mov_text", "dvd_subtitle")),
    "QuickTime": frozenset(("mov_text",)),
    "Matroska": frozenset(
        ("subrip", "srt", "ass", "ssa", "webvtt", "hdmv_pgs_subtitle", "dvd_subtitle", "dvb_subtitle")
    ),
    "WebM": frozenset(("webvtt",)),
    "MPEG-TS": frozenset(("dvb_subtitle", "hdmv_pgs_subtitle")),
}
"""The subtitle codecs that players read in each container."""

COPIED_AUDIO = {
    "MP4": frozenset(("aac", "ac3", "eac3", "mp3", "mp2", "opus", "flac", "alac", "dts", "truehd")),
    "MPEG-TS": frozenset(("aac", "aac_latm", "ac3", "eac3", "mp2", "mp3", "opus", "dts", "truehd")),
}
"""The audio codecs that players read in containers into which FFmpeg writes others too."""

COVER_TYPES = {"mjpeg": ("image/jpeg", "cover.jpg"), "png": ("image/png", "cover.png")}
"""MIME type and file name of cover art as a Matroska attachment, by its codec."""


@dataclass(frozen=True)
class StreamMapping:
    """How a stream is written. action: "picture" is the enhanced stream, "left out" comes with a reason."""

    index: int
    kind: str
    codec: str
    action: Literal["picture", "copy", "convert", "attach", "left out"]
    reason: str = ""


def map_streams(
    source: "InputContainer", picture: int, container: Container, dropped: Collection[str] = ()
) -> list[StreamMapping]:
    """How every stream of a clip is written. picture: the index of the enhanced stream.

    dropped: kinds to leave out. Raises OnebranchError for a stream that the container cannot hold.
    """
    mappings = []
    for stream in source.streams:
        kind = _kind(stream)
        codec = _codec_name(stream)
        if stream.index == picture:
            mappings.append(StreamMapping(stream.index, kind, codec, "picture"))
        elif kind in dropped:
            mappings.append(StreamMapping(stream.index, kind, codec, "left out"))
        else:
            mappings.append(_map(stream, kind, codec, container))
    if source.chapters() and not container.chapters and "chapters" not in dropped:
        raise _refusal("chapters", "chapters", container, [c for c in CONTAINERS.values() if c.chapters])
    return mappings


def _map(stream: Any, kind: str, codec: str, container: Container) -> StreamMapping:
    index = stream.index
    if kind == "attachments":
        return _map_attachment(stream, container)
    if kind == "cover":
        return _map_cover(index, codec, container)
    if kind == "subtitles":
        return _map_subtitles(index, codec, container)
    if kind == "audio":
        return _map_audio(stream, codec, container)
    return StreamMapping(
        index, kind, codec, "left out", f"stream {index} ({kind}, {codec or 'unknown'}) left out"
    )


def _map_attachment(stream: Any, container: Container) -> StreamMapping:
    if container.attachments:
        return StreamMapping(stream.index, "attachments", "", "attach")
    able = [each for each in CONTAINERS.values() if each.attachments]
    name = stream.metadata.get("filename", stream.index)
    raise _refusal("attachments", f"the attachment '{name}'", container, able)


def _map_audio(stream: Any, codec: str, container: Container) -> StreamMapping:
    if _holds(container, stream):
        return StreamMapping(stream.index, "audio", codec, "copy")
    able = [each for each in CONTAINERS.values() if _holds(each, stream)]
    raise _refusal("audio", f"{codec} audio", container, able)


def _map_cover(index: int, codec: str, container: Container) -> StreamMapping:
    if not container.cover_art or codec not in COVER_TYPES:
        able = [c for c in CONTAINERS.values() if c.cover_art]
        raise _refusal("cover", f"{codec} cover art", container, able)
    return StreamMapping(index, "cover", codec, "attach" if container.attachments else "copy")


def _map_subtitles(index: int, codec: str, container: Container) -> StreamMapping:
    if codec in COPIED_SUBTITLES.get(container.name, ()):
        return StreamMapping(index, "subtitles", codec, "copy")
    if codec in TEXT_SUBTITLES and container.text_subtitles:
        reason = f"subtitles converted from {codec} to {container.text_subtitles}"
        return StreamMapping(index, "subtitles", codec, "convert", reason)
    able = [
        c
        for c in CONTAINERS.values()
        if codec in COPIED_SUBTITLES.get(c.name, ()) or (codec in TEXT_SUBTITLES and c.text_subtitles)
    ]
    raise _refusal("subtitles", f"{codec} subtitles", container, able)


def _refusal(kind: str, what: str, container: Container, able: Sequence[Container]) -> OnebranchError:
    suffixes = " or ".join(each.suffixes[0] for each in able)
    write = f"write {suffixes}, or leave them out" if suffixes else "leave them out"
    return OnebranchError(
        f"{container.name} ({container.suffixes[0]}) cannot hold {what}; {write} (--drop {kind})"
    )


def _kind(stream: Any) -> str:
    from av.stream import Disposition

    if stream.type == "video":
        return "cover" if stream.disposition & Disposition.attached_pic else "video"
    return {"subtitle": "subtitles", "attachment": "attachments"}.get(stream.type, str(stream.type))


def _codec_name(stream: Any) -> str:
    context = stream.codec_context
    return "" if context is None else str(context.codec.canonical_name)


def _holds(container: Container, stream: Any) -> bool:
    """Whether players read such audio in that container, and FFmpeg writes a header with it."""
    import av

    codec = _codec_name(stream)
    if not codec or codec not in COPIED_AUDIO.get(container.name, (codec,)):
        return False
    try:
        with av.open(io.BytesIO(), "w", format=container.muxer) as output:
            output.add_stream_from_template(stream, opaque=True)
            output.start_encoding()
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def stream_notes(mappings: Sequence[StreamMapping]) -> list[str]:
    """Notes about streams that are converted or left out, one line each."""
    return list(dict.fromkeys(mapping.reason for mapping in mappings if mapping.reason))


@dataclass(frozen=True)
class Cut:
    """A part of the time line, in seconds of the source; it becomes the beginning of the result."""

    start: Fraction = Fraction(0)
    end: Fraction | None = None


class StreamCopier:
    """Copies streams into an output; `packets` are in the order of their times.

    The streams are added in the order of the source, the picture by `add_picture`.
    """

    def __init__(
        self,
        source: "InputContainer",
        output: "OutputContainer",
        mappings: Sequence[StreamMapping],
        add_picture: Any,
        cut: Cut,
        kept: MetadataFilter,
    ) -> None:
        self._source, self._cut = source, cut
        self._streams: dict[int, Any] = {}
        self._converters: dict[int, _SubtitleConverter] = {}
        attachments = []
        for mapping in mappings:
            stream: Any = source.streams[mapping.index]
            if mapping.action == "picture":
                copy = add_picture()
            elif mapping.action == "copy":
                copy = output.add_stream_from_template(stream, opaque=True)
                self._streams[mapping.index] = copy
            elif mapping.action == "convert":
                converter = _SubtitleConverter(stream, output, CONVERTED_CODECS[output.format.name])
                copy, self._converters[mapping.index] = converter.stream, converter
            else:
                attachments += [mapping] if mapping.action == "attach" else []
                continue
            copy.metadata.update(kept.of_stream(stream.metadata))
            copy.disposition = stream.disposition
        for mapping in attachments:
            _attach(source, output, mapping, kept)

    def packets(self) -> Iterator[tuple[float, Any]]:
        """(time in seconds, packet for the output) of all copied streams."""
        wanted = [self._source.streams[index] for index in (*self._streams, *self._converters)]
        if not wanted:
            return
        for packet in self._source.demux(*wanted):
            if packet.size and (moved := self._moved(packet)):
                yield from self._written(packet, *moved)

    def _moved(self, packet: Any) -> tuple[Fraction, int] | None:
        """(time in seconds, shift in ticks) of a packet; None if it lies outside the part."""
        from av.stream import Disposition

        time_base: Fraction = packet.time_base
        ticks = packet.pts if packet.pts is not None else packet.dts
        if packet.stream.disposition & Disposition.attached_pic or ticks is None:
            return Fraction(0), 0
        time = ticks * time_base
        cut = self._cut
        if (cut.start and time < cut.start) or (cut.end is not None and time >= cut.end):
            return None
        return time - cut.start, round(cut.start / time_base)

    def _written(self, packet: Any, time: Fraction, shift: int) -> Iterator[tuple[float, Any]]:
        index = packet.stream.index
        if index in self._converters:
            for converted in self._converters[index].convert(packet, shift):
                yield float(time), converted
            return
        if packet.pts is not None:
            packet.pts -= shift
        if packet.dts is not None:
            packet.dts -= shift
        packet.stream = self._streams[index]
        yield float(time), packet


CONVERTED_CODECS = {
    **dict.fromkeys(("mp4", "mov"), "mov_text"),
    "matroska": "subrip",
    "webm": "webvtt",
}
"""The codec of converted text subtitles, by the name of the muxer."""


ASS_HEADER = (
    b"[Script Info]\r\nScriptType: v4.00+\r\nPlayResX: 384\r\nPlayResY: 288\r\n\r\n[V4+ Styles]\r\n"
    b"Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold,"
    b" Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow,"
    b" Alignment, MarginL, MarginR, MarginV, Encoding\r\nStyle: Default,Arial,16,&Hffffff,&Hffffff,&H0,"
    b"&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1\r\n\r\n[Events]\r\nFormat: Layer, Start, End, Style,"
    b" Name, MarginL, MarginR, MarginV, Effect, Text\r\n"
)
"""The header of the ASS script that FFmpeg's subtitle decoders produce, for those that state none."""


class _SubtitleConverter:
    """Decodes the text of subtitles and encodes it in another codec."""

    def __init__(self, source: Any, output: "OutputContainer", codec: str) -> None:
        self._source = source
        self.stream: Any = output.add_stream(codec, time_base=Fraction(1, 1000))
        self.stream.time_base = Fraction(1, 1000)
        context: Any = source.codec_context
        header = context.subtitle_header
        encoder: Any = self.stream.codec_context
        encoder.subtitle_header = header or ASS_HEADER
        encoder.time_base = Fraction(1, 1000)

    def convert(self, packet: Any, shift: int) -> Iterator[Any]:
        """The packets of the converted subtitle."""
        subtitles = self._source.codec_context.decode2(packet)
        if subtitles is None or not len(subtitles):
            return
        encoded = self.stream.codec_context.encode_subtitle(subtitles)
        base = packet.time_base
        encoded.pts = round((packet.pts - shift) * base * 1000)
        encoded.dts = encoded.pts
        encoded.duration = round((packet.duration or 0) * base * 1000)
        encoded.time_base = Fraction(1, 1000)
        encoded.stream = self.stream
        yield encoded


def _attach(
    source: "InputContainer", output: "OutputContainer", mapping: StreamMapping, kept: MetadataFilter
) -> None:
    """Attach a file of the source, or its cover art."""
    stream: Any = source.streams[mapping.index]
    if mapping.kind == "attachments":
        name = stream.metadata.get("filename", f"attachment-{mapping.index}")
        mime = stream.metadata.get("mimetype", "application/octet-stream")
        content = stream.data
    else:
        mime, name = COVER_TYPES[mapping.codec]
        name = stream.metadata.get("filename", name)
        content = _cover(source, stream)
    copy: Any = output.add_attachment(name, mime, content)
    copy.metadata.update(kept.of_stream(stream.metadata) | {"filename": name, "mimetype": mime})


def _cover(source: "InputContainer", stream: Any) -> bytes:
    import av

    with av.open(source.name) as again:
        for packet in again.demux(again.streams[stream.index]):
            if packet.size:
                return bytes(packet)
    return b""


def copy_chapters(source: "InputContainer", output: "OutputContainer", cut: Cut) -> None:
    """The chapters that begin in the part, moved with it."""
    chapters: list[Any] = []
    for chapter in source.chapters():
        base = chapter["time_base"] or Fraction(1, 1000)
        start, end = chapter["start"] * base, chapter["end"] * base
        if end <= cut.start or (cut.end is not None and start >= cut.end):
            continue
        shift = round(cut.start / base)
        last = chapter["end"] if cut.end is None else min(chapter["end"], round(cut.end / base))
        chapters.append({**chapter, "start": max(0, chapter["start"] - shift), "end": last - shift})
    if chapters:
        output.set_chapters(chapters)
