"""Writes the final file: the packets of all segments, interleaved with the streams that are copied."""

import heapq
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onebranch.enhancer.options import Size
from onebranch.errors import OnebranchError
from onebranch.video.clip_metadata import MetadataFilter
from onebranch.video.containers import Container
from onebranch.video.encoding import ClipEncoding, Encoder
from onebranch.video.probe import ClipProbe, opened
from onebranch.video.segments import ClipSegment, SegmentFolder, decoding_times
from onebranch.video.streams import Cut, StreamCopier, StreamMapping, copy_chapters
from onebranch.video.timestamps import ticks_per_frame

if TYPE_CHECKING:
    from av.container import OutputContainer


@dataclass(frozen=True)
class Muxing:
    """The final file. size: (height, width) of its frames. cut: the part of the source that it holds.

    chapters: whether to copy them. kept: which metadata are copied.
    """

    probe: ClipProbe
    container: Container
    encoding: ClipEncoding
    size: Size
    mappings: Sequence[StreamMapping]
    cut: Cut
    chapters: bool
    kept: MetadataFilter

    def check(self) -> None:
        """Write the header of the file into memory. Raises OnebranchError if that is impossible."""
        import av

        try:
            with opened(self.probe.path) as source, self._output(io.BytesIO()) as output:

                def add_picture() -> Any:
                    encoder = Encoder(output, self.encoding, self.size)
                    encoder.open()
                    return encoder.stream

                self._copier(source, output, add_picture)
                output.start_encoding()
        except (av.error.FFmpegError, ValueError) as error:
            raise OnebranchError(
                f"{self.container.name} ({self.container.suffixes[0]}) cannot hold the streams of"
                f" '{self.probe.path}': {error}; write .mkv"
            ) from None

    def write(self, path: Path, folder: SegmentFolder, segments: Sequence[ClipSegment]) -> None:
        """Write the file from the segments."""
        import av

        with (
            opened(self.probe.path) as source,
            av.open(folder.media(0)) as first,
            self._output(path) as output,
        ):
            template = first.streams.video[0]

            def add_picture() -> Any:
                return self._picture(output, template)

            copier = self._copier(source, output, add_picture)
            picture = next(s for s in output.streams.video if s.type == "video" and s.index == self._index)
            output.start_encoding()
            for _, packet in heapq.merge(
                self._picture_packets(picture, folder, segments), copier.packets(), key=lambda item: item[0]
            ):
                output.mux(packet)

    @property
    def _index(self) -> int:
        """The index of the picture among the streams of the result."""
        before = [mapping for mapping in self.mappings if mapping.index < self.probe.index]
        return sum(mapping.action in ("copy", "convert") for mapping in before)

    def _output(self, file: Path | io.BytesIO) -> "OutputContainer":
        import av

        output: Any = av.open(file, "w", format=self.container.muxer)
        output.flags |= av.container.Flags.bitexact.value  # the same input gives the same bytes
        opened_output: OutputContainer = output
        return opened_output

    def _copier(self, source: Any, output: "OutputContainer", add_picture: Any) -> StreamCopier:
        output.metadata.update(self.kept.of_file(source.metadata))
        copier = StreamCopier(source, output, self.mappings, add_picture, self.cut, self.kept)
        if self.chapters:
            copy_chapters(source, output, self.cut)
        return copier

    def _picture(self, output: "OutputContainer", template: Any) -> Any:
        """The picture's stream, with the rotation, pixel shape and time base of the source."""
        stream = output.add_stream_from_template(template, opaque=True)
        stream.time_base = self.probe.time_base
        context = stream.codec_context
        if self.encoding.aspect:
            context.sample_aspect_ratio = self.encoding.aspect
        if self.container.muxer in ("mp4", "mov") and (tag := self.encoding.quicktime_tag):
            context.codec_tag = tag
        if self.encoding.target.alpha:  # FFmpeg's VP9 decoder ignores it, and so does the template
            context.pix_fmt = self.encoding.target.name
        if matrix := self.probe.display_matrix:
            stream.set_display_matrix(self._scaled(matrix))
        return stream

    def _scaled(self, matrix: Sequence[int]) -> list[int]:
        """A display matrix with its translation, numbers 6 and 7, scaled as the frames are."""
        scaled = list(matrix)
        scaled[6] = round(matrix[6] * self.size[1] / self.probe.size[1])
        scaled[7] = round(matrix[7] * self.size[0] / self.probe.size[0])
        return scaled

    def _picture_packets(
        self, stream: Any, folder: SegmentFolder, segments: Sequence[ClipSegment]
    ) -> Iterator[tuple[float, Any]]:
        """The packets of all segments with their exact timestamps, moved by the cut."""
        import av

        probe = self.probe
        time_base = probe.time_base
        shift = round(self.cut.start / time_base)
        decode_at = decoding_times(segments, ticks_per_frame(time_base, probe.rate))
        for segment in segments:
            times = iter(segment.times)
            with av.open(folder.media(segment.number)) as media:
                for packet in media.demux(video=0):
                    if not packet.size:
                        continue
                    pts, duration = next(times)
                    dts = next(decode_at)
                    packet.pts, packet.dts, packet.duration = pts - shift, dts - shift, duration
                    packet.time_base = time_base
                    packet.stream = stream
                    yield float((dts - shift) * time_base), packet
