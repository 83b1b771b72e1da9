"""Enhances the planes of frames: luma through the networks, chroma and alpha resized.

A network of luma gets the luma plane itself. Its input is studio luma / 255, which is what 8-bit
limited-range video holds, so samples pass unchanged and are rounded once. RGB video, and networks of RGB,
take RGB.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.options import Size
from onebranch.enhancer.row_pipeline import RowPipeline, build_pipeline, sizes_along
from onebranch.enhancer.stage import Stage
from onebranch.enhancer.steps import Rows
from onebranch.images.resize import Resizing
from onebranch.images.rows import Layout
from onebranch.images.samples import Samples
from onebranch.video.colours import ColourTags, SampleRange, sample_range, ycbcr_matrix
from onebranch.video.pixel_format import PixelFormat
from onebranch.video.planes import PlaneArray, Planes, chroma_resizing, padded, resized_chroma, with_chroma

FloatSamples = npt.NDArray[np.float32]

LumaFunction = Callable[[PlaneArray], PlaneArray]
"""A luma or grey plane (H, W) -> the enhanced plane (H', W') of the same type."""


@dataclass(frozen=True)
class FrameLayout:
    """What all frames of a clip have in common: (height, width), pixel format and colour tags."""

    size: Size
    pixel_format: PixelFormat
    tags: ColourTags

    @property
    def range(self) -> SampleRange:
        """The range of the samples. RGB is always full range."""
        full = self.tags.full_range or self.pixel_format.model == "rgb"
        return sample_range(self.pixel_format.depth, full)


class PlaneEnhancer:
    """Enhances the frames of a clip, which all have one layout. target: (height, width) of the results."""

    def __init__(self, enhancer: Enhancer, layout: FrameLayout, target: Size) -> None:
        self.layout, self.target = layout, target
        self._enhancer = enhancer
        self._stages = enhancer.stages_for(layout.size)
        self.native = sizes_along(self._stages, layout.size)[-1]
        """(height, width) that the networks give."""
        self._computed = self._computed_size()
        self._factors = self._computed[0] / layout.size[0], self._computed[1] / layout.size[1]
        if self._computed == self.native:
            scale = float(np.prod([float(stage.halo.scale) for stage in self._stages]))
            self._factors = scale, scale
        self._frame = self._frame_function()
        self._pool = ThreadPoolExecutor(1, "chroma")

    def _computed_size(self) -> Size:
        """The native size if the target only rounds it up to what the pixel format needs, else the target."""
        slack = [after - before for before, after in zip(self.native, self.target, strict=True)]
        even = self.layout.pixel_format.chroma
        rounded = all(0 <= more < max(2, factor) for more, factor in zip(slack, even, strict=True))
        return self.native if rounded else self.target

    def __call__(self, planes: Planes) -> Planes:
        """The planes of the enhanced frame, in the pixel format of the source, at the target size."""
        return padded(self._frame(planes), self.layout.pixel_format, *self.target)

    def close(self) -> None:
        """End the thread that resizes chroma."""
        self._pool.shutdown()

    def resized(self, planes: Planes) -> Planes:
        """The planes resized bicubically to the target size, without networks."""
        pixel_format, maximum = self.layout.pixel_format, self.layout.range.maximum
        result = []
        for index, plane in enumerate(planes):
            resizing = self._resizing(index, plane.shape[:2], pixel_format)
            result.append(resized_chroma(plane, resizing, maximum))
        return padded(tuple(result), pixel_format, *self.target)

    def _frame_function(self) -> Callable[[Planes], Planes]:
        model = self.layout.pixel_format.model
        if model == "rgb":
            return self._rgb_frame
        if model == "yuv" and any(stage.model.colour == "rgb" for stage in self._stages):
            pipeline = self._pipeline(3, False, "float32")
            return lambda planes: self._through_rgb(planes, pipeline)
        luma = self._luma_function()
        return lambda planes: self._luma_frame(planes, luma)

    def _pipeline(self, channels: int, alpha: bool, depth: str) -> RowPipeline:
        layout = Layout(*self.layout.size, channels, alpha, depth)
        return build_pipeline(layout, self._stages, self._computed, self._enhancer.tile())

    def _run(self, pipeline: RowPipeline, samples: Samples) -> Samples:
        """All rows of the result, band by band where the network needs much memory."""
        bands = list(pipeline.bands(self._enhancer.memory()))
        parts = []
        for band in bands:
            needed = pipeline.needs(band)
            parts.append(pipeline.rows(samples[needed.first : needed.last], Rows(*needed), band))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _run_floats(self, pipeline: RowPipeline, samples: FloatSamples) -> FloatSamples:
        return self._run(pipeline, samples).astype(np.float32, copy=False)

    # Luma networks on YUV and grey.

    def _luma_function(self) -> LumaFunction:
        full, depth = self.layout.tags.full_range, self.layout.pixel_format.depth
        if full and depth == 8:  # the pipeline's own conversion of grey
            pipeline = self._pipeline(1, False, "uint8")
            return lambda plane: self._run(pipeline, np.ascontiguousarray(plane)[..., None])[..., 0]
        if depth == 8 and (function := _engine_luma(self._stages, self._computed == self.native)):
            return function
        return self._float_luma(self._pipeline(1, False, "float32"))

    def _float_luma(self, pipeline: RowPipeline) -> LumaFunction:
        """Luma as floats, with black at 0 and white at 1."""
        values = self.layout.range
        black, extent = np.float32(values.black), np.float32(values.white - values.black)

        def run(plane: PlaneArray) -> PlaneArray:
            samples = (plane.astype(np.float32) - black) / extent
            result = self._run_floats(pipeline, samples[..., None])[..., 0]
            return _rounded(result * extent + black, values.maximum, plane.dtype.name)

        return run

    def _luma_frame(self, planes: Planes, luma: LumaFunction) -> Planes:
        """Chroma is resized while the network runs."""
        others = self._pool.submit(self._resized_others, planes)
        return (luma(planes[0]), *others.result())

    def _resized_others(self, planes: Planes) -> Planes:
        """Every plane but the first, resized; alpha stays opaque where it is opaque all over."""
        pixel_format, maximum = self.layout.pixel_format, self.layout.range.maximum
        result: list[PlaneArray] = []
        for index, plane in enumerate(planes[1:], 1):
            rows, columns = pixel_format.plane_size(index, *self._computed)
            is_alpha = pixel_format.alpha and index == len(planes) - 1
            if is_alpha and bool(np.all(plane == maximum)):
                result.append(np.full((rows, columns), maximum, plane.dtype))
                continue
            resizing = self._resizing(index, plane.shape[:2], pixel_format)
            result.append(plane if self._factors == (1, 1) else resized_chroma(plane, resizing, maximum))
        return tuple(result)

    def _resizing(self, index: int, before: Size, pixel_format: PixelFormat) -> Resizing:
        """The resizing of the plane with that index."""
        after = pixel_format.plane_size(index, *self._computed)
        is_chroma = pixel_format.model == "yuv" and index in (1, 2)
        chroma = pixel_format.chroma if is_chroma else (1, 1)
        kernel = self._enhancer.options.chroma
        return chroma_resizing(before, after, self._factors, chroma, self.layout.tags.siting, kernel)

    # RGB video, and RGB networks on YUV.

    def _rgb_frame(self, planes: Planes) -> Planes:
        pixel_format = self.layout.pixel_format
        depth = "uint8" if pixel_format.depth == 8 else "float32"
        pipeline = self._pipeline(3, pixel_format.alpha, depth)
        samples = np.stack(planes, axis=2)
        if depth == "uint8":
            return _separated(self._run(pipeline, samples))
        maximum = self.layout.range.maximum
        result = self._run_floats(pipeline, samples.astype(np.float32) / np.float32(maximum))
        return _separated(_rounded(result * np.float32(maximum), maximum, pixel_format.dtype))

    def _through_rgb(self, planes: Planes, pipeline: RowPipeline) -> Planes:
        """Chroma is interpolated to the resolution of luma, and reduced again behind the networks."""
        pixel_format, values, tags = self.layout.pixel_format, self.layout.range, self.layout.tags
        matrix = ycbcr_matrix(tags.matrix).astype(np.float32)
        scales = np.array(
            [values.white - values.black, values.chroma_extent, values.chroma_extent], np.float32
        )
        offsets = np.array([values.black, values.middle, values.middle], np.float32)
        full = with_chroma(planes[:3], pixel_format.chroma, (1, 1), tags.siting, values.maximum)
        ycbcr = (np.stack(full, axis=2).astype(np.float32) - offsets) / scales
        rgb = self._run_floats(pipeline, ycbcr @ np.linalg.inv(matrix).T)
        result = _rounded((rgb @ matrix.T) * scales + offsets, values.maximum, pixel_format.dtype)
        reduced = with_chroma(_separated(result), (1, 1), pixel_format.chroma, tags.siting, values.maximum)
        alpha = self._resized_others(planes)[2:] if pixel_format.alpha else ()
        return (*reduced, *alpha)


def _engine_luma(stages: list[Stage], native: bool) -> LumaFunction | None:
    """The engine's function for 8-bit limited-range luma, which needs no conversion; None if unavailable."""
    from onebranch.enhancer.engine_stage import EngineStage

    stage = stages[0]
    if len(stages) != 1 or not native or not isinstance(stage, EngineStage) or stage.model.colour != "y":
        return None
    engine = stage.engine

    def run(plane: PlaneArray) -> PlaneArray:
        return engine.run(np.ascontiguousarray(plane)[..., None], "uint8")[..., 0]

    return run


def _rounded(values: FloatSamples, maximum: int, dtype: str) -> PlaneArray:
    """Rounded half up and clipped to [0, maximum]."""
    values += np.float32(0.5)
    np.clip(values, 0, maximum + 0.5, out=values)
    return values.astype(dtype)


def _separated(samples: Samples) -> Planes:
    return tuple(np.ascontiguousarray(samples[..., channel]) for channel in range(samples.shape[2]))
