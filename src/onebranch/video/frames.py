"""Clips in Python: enhance a file, or iterate over enhanced frames."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np
import numpy.typing as npt

from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.folders import PathLike
from onebranch.enhancer.options import Options, OptionValues
from onebranch.enhancer.single_file import Enhanced, FileOptions
from onebranch.model.file import Model
from onebranch.read_ahead import ReadAhead
from onebranch.video.colours import ycbcr_matrix
from onebranch.video.decoding import ClipReader, part_of
from onebranch.video.frame_enhancer import FrameEnhancer, clip_options
from onebranch.video.options import VideoOptions
from onebranch.video.pipeline import queue_length
from onebranch.video.plane_enhancer import FrameLayout
from onebranch.video.planes import Planes, with_chroma
from onebranch.video.probe import probe_clip
from onebranch.video.progress import ClipProgress
from onebranch.video.single_clip import enhance_clip

DEFAULT_VIDEO_OPTIONS = VideoOptions()


def enhance_video(
    source: PathLike,
    target: PathLike,
    model: PathLike | Model | None = None,
    *,
    video: VideoOptions = DEFAULT_VIDEO_OPTIONS,
    overwrite: bool = False,
    progress: Callable[[ClipProgress], None] | None = None,
    **options: Unpack[OptionValues],
) -> Enhanced:
    """Enhance a clip into another file: sizes, models, number of frames, notes and seconds.

    source, target: files; the suffix of the target names the container, such as ".mkv". model: as for
    `enhance`; by default photo-x2-int8 or photo-x4-int8, by the scale. video: codec, part of the clip and
    other options of clips. overwrite: replace the target if it exists. progress: called for every frame.
    options: see `Options`. The target appears complete or not at all; segments of an interrupted run stay
    beside it, and `VideoOptions(resume=True)` continues them. Raises OnebranchError for clips that cannot be
    read, enhanced or written. Needs the extra `video`.

    >>> enhance_video("missing.mp4", "big.mkv")
    Traceback (most recent call last):
    ...
    onebranch.errors.OnebranchError: cannot read the clip 'missing.mp4': No such file or directory
    """
    return enhance_clip(
        Path(source),
        Path(target),
        Options(model=model, **options),
        FileOptions(overwrite=overwrite),
        video,
        report=lambda path, state: progress(state) if progress is not None else None,
    )


@dataclass(frozen=True)
class EnhancedFrame:
    """An enhanced frame.

    planes: (H, W) arrays of Y, Cb, Cr, or R, G, B, or grey, and alpha last if there is any; uint8 or uint16.
    seconds: when it is shown. layout: its pixel format and colour tags.

    >>> from onebranch.video.colours import ColourTags
    >>> from onebranch.video.pixel_format import PixelFormat
    >>> layout = FrameLayout((2, 2), PixelFormat("grey", 8), ColourTags(False, 6, 6, 6))
    >>> EnhancedFrame((np.full((2, 2), 235, np.uint8),), 0.0, layout).rgb()[0, 0].tolist()
    [255, 255, 255]
    """

    planes: Planes
    seconds: float
    layout: FrameLayout

    def rgb(self) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
        """The frame as RGB (H, W, 3), full range: uint8 for 8 bits, else uint16 with white at 65535."""
        values, kind = self.layout.range, self.layout.pixel_format
        white = 255 if kind.depth == 8 else 65535
        rgb: npt.NDArray[np.float32]
        if kind.model == "rgb":
            rgb = np.stack(self.planes[:3], axis=2).astype(np.float32) / np.float32(values.maximum)
        else:
            rgb = self._rgb_of_yuv()
        samples = np.clip(rgb, 0, 1) * np.float32(white) + np.float32(0.5)
        return samples.astype(np.uint8) if white == 255 else samples.astype(np.uint16)

    def _rgb_of_yuv(self) -> npt.NDArray[np.float32]:
        """The frame as RGB with white at 1, unclipped."""
        values, kind, tags = self.layout.range, self.layout.pixel_format, self.layout.tags
        extent = np.float32(values.white - values.black)
        luma = (self.planes[0].astype(np.float32) - np.float32(values.black)) / extent
        if kind.model == "grey":
            return np.repeat(luma[..., None], 3, axis=2)
        full = with_chroma(self.planes[:3], kind.chroma, (1, 1), tags.siting, values.maximum)
        chroma = [(plane.astype(np.float32) - values.middle) / values.chroma_extent for plane in full[1:]]
        ycbcr = np.stack([luma, *chroma], axis=2)
        inverse = np.linalg.inv(ycbcr_matrix(tags.matrix)).astype(np.float32)
        return np.asarray(ycbcr @ inverse.T, np.float32)


def enhanced_frames(
    source: PathLike,
    model: PathLike | Model | None = None,
    *,
    video: VideoOptions = DEFAULT_VIDEO_OPTIONS,
    **options: Unpack[OptionValues],
) -> Iterator[EnhancedFrame]:
    """The enhanced frames of a clip, in the order in which they are shown.

    The next frames are decoded meanwhile. Arguments as for `enhance_video`; of `video`, `start`, `end`,
    `frames`, `preview` and `deinterlace` apply. Raises OnebranchError as `enhance_video`.

    >>> next(enhanced_frames("missing.mp4"))
    Traceback (most recent call last):
    ...
    onebranch.errors.OnebranchError: cannot read the clip 'missing.mp4': No such file or directory
    """
    probe = probe_clip(Path(source))
    enhancer = Enhancer(clip_options(Options(model=model, **options), probe.size))
    size = enhancer.size_of_result(probe.size)
    layout = FrameLayout(size, probe.layout.pixel_format, probe.layout.tags)
    enhance = FrameEnhancer(enhancer, probe.layout, size, video.preview is not None)
    reader = ClipReader(probe, part_of(probe, video), video.deinterlace)
    try:
        with ReadAhead(reader.frames(), queue_length(3 * size[0] * size[1])) as decoded:
            for frame in decoded:
                yield EnhancedFrame(enhance(frame), float(frame.time.pts * probe.time_base), layout)
    finally:
        enhance.close()
