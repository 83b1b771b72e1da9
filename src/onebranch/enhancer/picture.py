"""One picture in, the enhanced picture out: the function behind every command and every caller."""

import os
from dataclasses import replace
from fractions import Fraction
from math import prod
from typing import Unpack

import numpy as np

from onebranch.enhancer.options import (
    Options,
    OptionValues,
    Size,
    chain_for,
    factor_asked_for,
    size_asked_for,
)
from onebranch.enhancer.stage import ArrayStage, GraphStage, Stage, scale_of
from onebranch.enhancer.values import enhanced, interpolated, size_after
from onebranch.images.files import read
from onebranch.images.picture import DEPTHS, Picture
from onebranch.model.catalogue import find, is_foreign, load, quantized
from onebranch.model.file import Model
from onebranch.runtime.selection import Choice, check_available, chosen, open_foreign, open_runtime


def enhance(
    picture: Picture | str | os.PathLike[str],
    model: str | os.PathLike[str] | Model | None = None,
    **options: Unpack[OptionValues],
) -> Picture:
    """The enhanced picture, in the depth and colours of the one given, alpha and metadata kept.

    picture: a `Picture` or a file. model: a shipped model's name, a file (anybody's ONNX file too) or a
    `Model`; by default photo-x2, or what reaches the scale asked for. options: see `Options`. A greyscale
    picture stays one. Raises OnebranchError for what cannot be read or run, or contradicts.
    """
    found = picture if isinstance(picture, Picture) else read(os.fspath(picture))
    return Enhancer(Options(model=model, **options)).enhance(found)


class Enhancer:
    """The models that the options ask for, opened once, for any number of pictures."""

    def __init__(self, options: Options) -> None:
        check_available(options.runtime, options.precision)  # once, not for every picture
        self.options = options
        self._opened: dict[str, Stage] = {}
        self._fixed = None if options.model is None else self._stage_of(options.model)

    def enhance(self, picture: Picture) -> Picture:
        """The enhanced picture."""
        stages = self.stages_for((picture.height, picture.width))
        size, tile = self.size_of_result((picture.height, picture.width)), self.options.tile
        pixels = enhanced(picture.pixels, stages, size, tile)
        if picture.alpha is None:
            return replace(picture, pixels=pixels)
        if picture.opaque:
            alpha = np.full(size, DEPTHS[picture.alpha.dtype.name], picture.alpha.dtype)
        else:
            alpha = interpolated(picture.alpha, stages, size, tile)
        return replace(picture, pixels=pixels, alpha=alpha)

    def size_of_result(self, picture: Size) -> Size:
        """(height, width) of the result for a picture of that size."""
        stages = self.stages_for(picture)
        scale = prod((scale_of(stage) for stage in stages), start=Fraction(1))
        return size_asked_for(self.options, picture, size_after(stages, picture), scale)

    def stages_for(self, picture: Size) -> list[Stage]:
        """The networks that a picture of that size goes through."""
        if self._fixed is not None:
            return [self._fixed]
        names = chain_for(factor_asked_for(self.options, picture))
        if self.options.precision == "int8":
            names = [quantized(name) for name in names]
        for name in names:
            if name not in self._opened:
                self._opened[name] = self._stage_of(name)
        return [self._opened[name] for name in names]

    def _stage_of(self, model: str | os.PathLike[str] | Model) -> Stage:
        if not isinstance(model, Model) and is_foreign(model):
            return self._foreign_stage_of(model)
        found = model if isinstance(model, Model) else load(model)
        options = self.options
        return stage_of(found, chosen(found, options.runtime, options.precision), options)

    def _foreign_stage_of(self, model: str | os.PathLike[str]) -> Stage:
        from onebranch.model.foreign import read_foreign  # imported late: our own models do without it

        options = self.options
        found = read_foreign(find(model))
        network = open_foreign(found, options.runtime, options.threads, options.memory, options.precision)
        return ArrayStage(found, network, options.chroma)


def stage_of(model: Model, choice: Choice, options: Options) -> Stage:
    """The model at work on pictures in what was chosen: the fastest stage that this runtime has."""
    if choice.runtime == "engine":
        from onebranch.enhancer.engine_stage import EngineStage  # imported late: it may not be built

        return EngineStage(model, options.chroma, options.threads, choice.precision)
    if choice.runtime == "onnxruntime" and choice.precision == "fp32":
        return GraphStage(model, options.chroma, options.threads)
    network = open_runtime(model, choice.runtime, options.threads, choice.precision)
    return ArrayStage(model, network, options.chroma)
