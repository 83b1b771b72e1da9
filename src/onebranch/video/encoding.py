"""Encoders of clips: which encoder and pixel format, with which options, and the encoder itself."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from onebranch.enhancer.options import Size
from onebranch.errors import OnebranchError
from onebranch.runtime.processor import processor_flags
from onebranch.video.colours import FULL_RANGE, LIMITED_RANGE, ColourTags
from onebranch.video.containers import CODECS, Container, containers_with
from onebranch.video.hdr import HdrMetadata, svtav1_parameters, x265_parameters
from onebranch.video.options import DEFAULT_CRF, DEFAULT_PRESETS, VideoOptions, check_encoding
from onebranch.video.pixel_format import PixelFormat, nearest_format, pixel_format
from onebranch.video.planes import Planes, converted, frame_of
from onebranch.video.timestamps import FrameTime

if TYPE_CHECKING:
    from av.container import OutputContainer

ENCODERS = {
    "h264": "libx264",
    "h265": "libx265",
    "av1": "libsvtav1",
    "vp9": "libvpx-vp9",
    "prores": "prores_ks",
    "ffv1": "ffv1",
}
"""FFmpeg's encoder of every codec."""

REPRODUCIBLE_X264 = "avx2"
"""The instruction set that x264 is held to on processors with AVX-512.

With AVX-512, x264 encodes the same small frames differently in about one run of twenty, and a resumed
run would differ from an uninterrupted one. AVX2 takes 5 to 10 % more of the encoder's time.
"""

ENCODED_FORMATS = {
    "h264": (
        "yuv420p",
        "yuv422p",
        "yuv444p",
        "gray",
        "yuv420p10le",
        "yuv422p10le",
        "yuv444p10le",
        "gray10le",
    ),
    "h265": (
        *("yuv420p", "yuv422p", "yuv444p", "gbrp", "gray", "yuv420p10le", "yuv422p10le", "yuv444p10le"),
        *("gbrp10le", "gray10le", "yuv420p12le", "yuv422p12le", "yuv444p12le", "gbrp12le", "gray12le"),
    ),
    "av1": ("yuv420p", "yuv420p10le"),
    "vp9": ("yuv420p", "yuva420p", "yuv422p", "yuv444p", "gbrp"),
    "prores": ("yuv422p10le", "yuv444p10le", "yuva444p10le"),
    "ffv1": (
        *(
            f"yuv{alpha}{chroma}p{bits}"
            for alpha in ("", "a")
            for chroma in ("420", "422", "444")
            for bits in ("", "10le", "12le", "16le")
            if (alpha, chroma, bits) != ("a", "420", "12le")
        ),
        *("gray", "gray10le", "gray12le", "gray16le", "gbrp10le", "gbrp12le", "gbrp16le"),
        *("gbrap10le", "gbrap12le", "gbrap16le"),
    ),
}
"""The pixel formats that each codec is used with, by FFmpeg's names."""

RATE_FACTOR_CODECS = ("h264", "h265", "av1", "vp9")
"""Codecs whose quality is a constant rate factor."""

QUICKTIME_TAGS = {"h265": "hvc1", "prores": "apch"}
"""The tags of codecs in MP4 and QuickTime files where FFmpeg's default is not the one that players expect."""

SIZE_MULTIPLE_CODECS = ("h264", "h265", "av1")
"""Codecs whose frames must be whole cells of chroma; the others crop the last cell."""


@dataclass(frozen=True)
class ClipEncoding:
    """How the frames of a result are encoded. source, target: pixel formats before and in the encoder."""

    codec: str
    crf: float | None
    preset: str | None
    source: PixelFormat
    target: PixelFormat
    tags: ColourTags
    hdr: HdrMetadata
    time_base: Fraction
    rate: Fraction
    aspect: Fraction | None
    threads: int

    @property
    def quicktime_tag(self) -> str:
        """The codec's tag in MP4 and QuickTime files; empty for FFmpeg's default."""
        if self.codec == "prores" and self.target.chroma == (1, 1):
            return "ap4h"
        return QUICKTIME_TAGS.get(self.codec, "")

    def size_for(self, size: Size) -> Size:
        """The size, rounded up to whole cells of chroma where the codec needs them.

        That is an even height and width for 4:2:0.
        """
        if self.codec not in SIZE_MULTIPLE_CODECS:
            return size
        rows, columns = self.target.chroma
        return -(-size[0] // rows) * rows, -(-size[1] // columns) * columns


def choose_codec(container: Container, source: PixelFormat, requested: str | None) -> tuple[str, PixelFormat]:
    """The codec and the encoder's pixel format.

    Without a request: the container's first codec that keeps depth, chroma and alpha; h264 is taken for 8
    bits only, since few players decode more. Raises OnebranchError if the container or the codec cannot hold
    them.
    """
    if requested is not None and requested not in container.codecs:
        raise OnebranchError(
            f"{container.name} ({container.suffixes[0]}) cannot hold {requested};"
            f" write {containers_with(requested)}, or choose {' or '.join(container.codecs)}"
        )
    candidates = container.codecs if requested is None else (requested,)
    if source.alpha:
        candidates = tuple(codec for codec in candidates if codec in container.alpha_codecs)
    choices = [(codec, target) for codec in candidates if (target := encoded_format(codec, source))]
    if not choices:
        within = f"{container.name} ({container.suffixes[0]})"
        what = within if requested is None else f"{requested} in {within}"
        raise OnebranchError(
            f"{what} cannot hold {source.words} video without loss; {_codecs_for(source)} can (--codec)"
        )
    choices.sort(key=lambda choice: (choice[1] != source, choice[0] == "h264" and source.depth > 8))
    return choices[0]


def _codecs_for(source: PixelFormat) -> str:
    """The codecs that hold the samples, with their containers, in words."""
    able = [codec for codec in CODECS if encoded_format(codec, source)]
    return " or ".join(f"{codec} in {containers_with(codec, source.alpha)}" for codec in able)


def encoded_format(codec: str, source: PixelFormat) -> PixelFormat | None:
    """The format in which a codec holds all samples of `source`; None if it cannot.

    12 bits become 10 in ProRes: FFmpeg decodes ProRes 4444 into 12 bits, but encodes it from 10.
    """
    if codec == "prores" and source.depth == 12:
        source = replace(source, depth=10)
    return nearest_format(source, [pixel_format(name)[0] for name in ENCODED_FORMATS[codec]])


def choose_encoding(
    container: Container,
    source: PixelFormat,
    tags: ColourTags,
    hdr: HdrMetadata,
    options: VideoOptions,
    *,
    time_base: Fraction,
    rate: Fraction,
    aspect: Fraction | None,
    threads: int,
) -> ClipEncoding:
    """The encoding of a result. Raises OnebranchError if the container cannot hold it."""
    codec, target = choose_codec(container, source, options.codec)
    check_encoding(codec, options.crf, options.preset)
    if aspect not in (None, 1) and codec not in container.aspect_codecs:
        raise OnebranchError(
            f"{container.name} ({container.suffixes[0]}) with {codec} cannot hold pixels that are not square"
            f" ({aspect}); write .mp4, or make them square with --width and --height"
        )
    return ClipEncoding(
        codec=codec,
        crf=DEFAULT_CRF.get(codec) if options.crf is None else options.crf,
        preset=options.preset or DEFAULT_PRESETS.get(codec),
        source=source,
        target=target,
        tags=tags,
        hdr=hdr if codec in ("h265", "av1") else HdrMetadata(),
        time_base=time_base,
        rate=rate,
        aspect=aspect,
        threads=threads,
    )


def encoder_options(encoding: ClipEncoding) -> dict[str, str]:
    """FFmpeg's options of the encoder."""
    target = encoding.target
    options = _codec_options(encoding)
    if encoding.codec in RATE_FACTOR_CODECS:
        options["crf"] = f"{encoding.crf:g}"
        options["cpu-used" if encoding.codec == "vp9" else "preset"] = encoding.preset or ""
    if target.model == "yuv" and target.chroma == (2, 2):
        options["chroma_sample_location"] = encoding.tags.siting
    return options


def _codec_options(encoding: ClipEncoding) -> dict[str, str]:
    """The options that belong to one codec."""
    target, codec = encoding.target, encoding.codec
    if codec == "h264" and "avx512f" in processor_flags():
        return {"x264-params": f"asm={REPRODUCIBLE_X264}"}
    if codec == "h265":
        return {"x265-params": ":".join(["log-level=none", *x265_parameters(encoding.hdr)])}
    if codec == "av1" and encoding.hdr:
        return {"svtav1-params": ":".join(svtav1_parameters(encoding.hdr))}
    if codec == "vp9":
        # libvpx cannot encode alpha with alternate reference frames
        alpha = {"auto-alt-ref": "0"} if target.alpha else {}
        return {"b": "0", "deadline": "good", "row-mt": "1", **alpha}
    if codec == "prores":
        profile = "4444" if target.chroma == (1, 1) else "hq"
        return {"profile": profile, "vendor": "apl0", **({"alpha_bits": "16"} if target.alpha else {})}
    return {"level": "3", "slicecrc": "1", "g": "1"} if codec == "ffv1" else {}


class Encoder:
    """Encodes frames into a new stream of a container, in the clip's time base.

    display_matrix: rotation and mirroring for display; empty: none.
    """

    def __init__(self, container: "OutputContainer", encoding: ClipEncoding, size: Size) -> None:
        self.encoding = encoding
        self._container = container
        self.stream: Any = container.add_stream(
            ENCODERS[encoding.codec],
            rate=encoding.rate.limit_denominator(1_000_000),
            options=encoder_options(encoding),
            height=size[0],
            width=size[1],
            pix_fmt=encoding.target.name,
            time_base=encoding.time_base,
        )
        self._set_context(self.stream.codec_context)
        self._durations: dict[int, int] = {}

    def _set_context(self, context: Any) -> None:
        tags, rgb = self.encoding.tags, self.encoding.target.model == "rgb"
        context.thread_count = self.encoding.threads
        context.color_range = FULL_RANGE if tags.full_range or rgb else LIMITED_RANGE
        context.colorspace = 0 if rgb else tags.matrix
        context.color_primaries, context.color_trc = tags.primaries, tags.transfer
        if self.encoding.aspect:
            context.sample_aspect_ratio = self.encoding.aspect

    def open(self) -> None:
        """Open the encoder. Raises OnebranchError if it refuses the options."""
        import av

        os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 prints errors only
        try:
            self.stream.codec_context.open(strict=False)
        except (av.error.FFmpegError, ValueError) as error:
            raise OnebranchError(f"the {self.encoding.codec} encoder does not start: {error}") from None

    def encode(self, planes: Planes, time: FrameTime) -> Iterator[tuple[Any, FrameTime]]:
        """The packets that a frame of the source's pixel format makes ready, in decoding order."""
        encoding = self.encoding
        tags = encoding.tags
        planes = converted(planes, encoding.source, encoding.target, tags.siting, tags.full_range)
        frame: Any = frame_of(planes, encoding.target)
        frame.pts, frame.time_base, frame.duration = time.pts, encoding.time_base, time.duration
        self._durations[time.pts] = time.duration
        yield from self._packets(frame)

    def finish(self) -> Iterator[tuple[Any, FrameTime]]:
        """The packets of the frames that the encoder still holds."""
        yield from self._packets(None)

    def _packets(self, frame: Any) -> Iterator[tuple[Any, FrameTime]]:
        for packet in self.stream.encode(frame):
            pts = packet.pts
            packet.duration = self._durations.pop(pts, 0)
            yield packet, FrameTime(pts, packet.duration)
