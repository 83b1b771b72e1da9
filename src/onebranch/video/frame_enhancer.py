"""Enhances decoded frames: which models clips get, and one enhancer for every resolution in a clip."""

from dataclasses import replace

from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.options import Options, Size, requested_factor
from onebranch.model.catalogue import DOWNSCALING_MODEL, quantized_name
from onebranch.runtime.gpu import names_gpu
from onebranch.runtime.selection import AUTO, FAST
from onebranch.video.decoding import DecodedFrame
from onebranch.video.plane_enhancer import FrameLayout, PlaneEnhancer
from onebranch.video.planes import Planes
from onebranch.video.split_screen import split_screen

CLIP_MODEL, CLIP_MODEL_X4 = "photo-x2-int8", "photo-x4-int8"
"""The models for clips if none is named: 8-bit integers, since clips have many frames."""


def clip_options(options: Options, size: Size) -> Options:
    """The options with a model for clips of that size if they name none: fast ones, in 8-bit integers.

    On a GPU, which computes in floats, it is the same model in floats.

    >>> clip_options(Options(scale=2), (1080, 1920)).model
    'photo-x2-int8'
    """
    if options.model is not None:
        return options
    factor = requested_factor(options, size)
    if factor > 4:
        return replace(options, precision=FAST if options.precision == AUTO else options.precision)
    model = CLIP_MODEL if factor <= 2 else CLIP_MODEL_X4
    if factor <= 0.5:
        model = quantized_name(DOWNSCALING_MODEL)
    if names_gpu(options.device):
        model = model.removesuffix("-int8")
    return replace(options, model=model)


class FrameEnhancer:
    """Enhances decoded frames, also those of another resolution than the first; all results have one size.

    split: show the original on the left half.
    """

    def __init__(self, enhancer: Enhancer, layout: FrameLayout, target: Size, split: bool) -> None:
        self._enhancer, self._layout, self._target, self._split = enhancer, layout, target, split
        self._by_size: dict[Size, PlaneEnhancer] = {}

    def __call__(self, frame: DecodedFrame) -> Planes:
        """The planes of the enhanced frame."""
        size = frame.planes[0].shape[0], frame.planes[0].shape[1]
        if size not in self._by_size:
            self._by_size[size] = PlaneEnhancer(
                self._enhancer, replace(self._layout, size=size), self._target
            )
        enhancer = self._by_size[size]
        result = enhancer(frame.planes)
        if not self._split:
            return result
        values = self._layout.range
        original = enhancer.resized(frame.planes)
        return split_screen(original, result, self._layout.pixel_format, values.white, values.middle)

    def close(self) -> None:
        """End all threads."""
        for enhancer in self._by_size.values():
            enhancer.close()
