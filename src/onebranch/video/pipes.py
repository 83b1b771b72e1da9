"""Clips on standard input and output: uncompressed Y4M streams, enhanced frame by frame as they arrive."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.options import Options, Size
from onebranch.errors import OnebranchError
from onebranch.read_ahead import ReadAhead
from onebranch.video.decoding import ClipReader, DecodedFrame, part_of
from onebranch.video.frame_enhancer import FrameEnhancer, clip_options
from onebranch.video.options import VideoOptions
from onebranch.video.pipeline import WriteBehind, queue_length
from onebranch.video.planes import Planes
from onebranch.video.probe import probe_clip
from onebranch.video.timestamps import FrameTime
from onebranch.video.y4m import Y4mHeader, Y4mReader, Y4mWriter


@contextmanager
def _source(
    source: BinaryIO | Path, video: VideoOptions
) -> Iterator[tuple[Y4mHeader, Iterator[DecodedFrame]]]:
    """The header and the frames of a Y4M stream, or of a file."""
    if isinstance(source, Path):
        probe = probe_clip(source)
        reader = ClipReader(probe, part_of(probe, video), video.deinterlace)
        interlacing = "m" if probe.interlaced and not video.deinterlace else "p"
        yield Y4mHeader(probe.layout, probe.rate, probe.aspect, interlacing), reader.frames()
        return
    stream = Y4mReader(source)
    frames = (DecodedFrame(planes, FrameTime(number, 1)) for number, planes in enumerate(stream.frames()))
    yield stream.header, frames


def pipe_clip(
    source: BinaryIO | Path,
    target: BinaryIO,
    options: Options,
    video: VideoOptions,
    report_device: Callable[[str], None] = lambda device: None,
) -> int:
    """Enhance a Y4M stream, or a file, into a Y4M stream; returns the number of frames.

    Every frame is written as soon as it is enhanced. A Y4M stream has a constant frame rate, which for a file
    is its average one. report_device: called with the device before the first frame. Raises OnebranchError
    for a stream that is damaged, and BrokenPipeError if the reader of `target` ends.
    """
    with _source(source, video) as (header, frames):
        size = header.layout.size
        enhancer = Enhancer(clip_options(options, size))
        report_device(" then ".join(enhancer.devices_for(size)))
        requested = _even(enhancer.size_of_result(size), header)
        result = replace(header, layout=replace(header.layout, size=requested))
        writer = Y4mWriter(target, result)
        enhance = FrameEnhancer(enhancer, header.layout, requested, video.preview is not None)
        length = queue_length(result.frame_bytes)
        count = 0
        try:
            with (
                ReadAhead(_limited(frames, video), length) as ahead,
                WriteBehind[Planes](writer.write, length) as out,
            ):
                for frame in ahead:
                    out.put(enhance(frame))
                    count += 1
        finally:
            enhance.close()
    if not count:
        raise OnebranchError("the clip has no frames")
    return count


def _limited(frames: Iterator[DecodedFrame], video: VideoOptions) -> Iterator[DecodedFrame]:
    for number, frame in enumerate(frames):
        if video.frames is not None and number >= video.frames:
            return
        yield frame


def _even(size: Size, header: Y4mHeader) -> Size:
    """The size in whole cells of chroma, which most programs need."""
    rows, columns = header.layout.pixel_format.chroma
    return -(-size[0] // rows) * rows, -(-size[1] // columns) * columns
