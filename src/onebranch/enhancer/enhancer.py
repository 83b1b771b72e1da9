"""One picture in, the enhanced picture out: the function behind every command and every caller."""

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from math import prod
from typing import Unpack

import numpy as np

from onebranch.enhancer.ensemble import EnsembleStage
from onebranch.enhancer.options import (
    Options,
    OptionValues,
    Size,
    chain_for,
    factor_asked_for,
    size_asked_for,
)
from onebranch.enhancer.row_pipeline import RowPipeline, build_pipeline, reach_of, sizes_along
from onebranch.enhancer.stage import ArrayStage, GraphStage, Stage, scale_of
from onebranch.enhancer.steps import Rows
from onebranch.enhancer.streaming import all_rows, enhanced_rows
from onebranch.enhancer.tiles import tile_for
from onebranch.images.picture import Picture, Samples, as_depth
from onebranch.images.reading import read
from onebranch.images.resize import resize
from onebranch.images.rows import Layout, Reader
from onebranch.model.catalogue import find, is_foreign, load, quantized
from onebranch.model.file import Model
from onebranch.runtime.cores import cores
from onebranch.runtime.memory import memory_limit
from onebranch.runtime.selection import Choice, check_available, chosen, open_foreign, open_runtime

MOST_MEMORY = 1 << 29
"""Bytes that the rows of a picture take unless more is allowed; more makes nothing faster."""


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
    """The models that the options ask for, opened once, for any number of pictures, from any thread.

    concurrency: how many pictures are worked on at the same time, which then share the cores.
    """

    def __init__(self, options: Options, concurrency: int = 1) -> None:
        check_available(options.runtime, options.precision)  # once, not for every picture
        if concurrency > 1 and options.threads is None:
            options = replace(options, threads=max(1, cores() // concurrency))
        self.options, self.concurrency = options, concurrency
        self._opened: dict[str, Stage] = {}
        self._lock = threading.RLock()
        self._fixed = None if options.model is None else self._stage_of(options.model)

    def enhance(self, picture: Picture) -> Picture:
        """The enhanced picture."""
        samples = picture.samples()
        result = (
            self._wrapped(samples) if self.options.wrap else self._all_rows(picture.header.layout, samples)
        )
        return picture.with_samples(result)

    def pipeline(self, layout: Layout) -> RowPipeline:
        """The way of a picture of that layout, of which any rows can be had; `wrap` has none by rows."""
        size = layout.height, layout.width
        stages = self.stages_for(size)
        with self._lock:  # stages open what they need for a kind of picture once
            return build_pipeline(layout, stages, self.size_of_result(size), self.tile())

    def rows(self, reader: Reader) -> Iterator[Samples]:
        """The rows of the result, from the top, while the next rows of the picture are being read."""
        layout = reader.header.layout
        if self.options.wrap:
            yield self._wrapped(all_rows(reader))
        else:
            yield from enhanced_rows(reader, self.pipeline(layout), self.memory())

    def bytes_for(self, layout: Layout) -> int:
        """Bytes that the rows of such a picture take while it is enhanced, about."""
        pipeline, limit = self.pipeline(layout), self.memory()
        whole = pipeline.whole or self.options.wrap
        rows = layout.height if whole else min(pipeline.target.height, pipeline.band_height(limit))
        return rows * pipeline.bytes_of_row()

    def memory(self) -> int:
        """Bytes that a picture's rows may take while it is enhanced."""
        limit = self.options.memory
        return (min(memory_limit(None), MOST_MEMORY) if limit is None else limit // 4) // self.concurrency

    def tile(self) -> int:
        """The edge of the tiles, where a stage takes tiles."""
        return self.options.tile or tile_for(self.memory())

    def size_of_result(self, picture: Size) -> Size:
        """(height, width) of the result for a picture of that size."""
        stages = self.stages_for(picture)
        scale = prod((scale_of(stage) for stage in stages), start=Fraction(1))
        return size_asked_for(self.options, picture, sizes_along(stages, picture)[-1], scale)

    def stages_for(self, picture: Size) -> list[Stage]:
        """The networks that a picture of that size goes through."""
        if self._fixed is not None:
            return [self._fixed]
        names = chain_for(factor_asked_for(self.options, picture))
        if self.options.precision == "int8":
            names = [quantized(name) for name in names]
        with self._lock:
            for name in names:
                if name not in self._opened:
                    self._opened[name] = self._stage_of(name)
            return [self._opened[name] for name in names]

    def _all_rows(self, layout: Layout, samples: Samples) -> Samples:
        """The whole result, made band by band."""
        pipeline = self.pipeline(layout)
        bands = list(pipeline.bands(self.memory()))
        if len(bands) == 1:
            return pipeline.rows(samples, Rows(0, layout.height), bands[0])
        target = pipeline.target
        result = np.empty((target.height, target.width, target.bands), target.depth)
        for wanted in bands:
            at = pipeline.needs(wanted)
            result[wanted.first : wanted.last] = pipeline.rows(samples[at.first : at.last], at, wanted)
        return result

    def _wrapped(self, samples: Samples) -> Samples:
        """The result for a picture that continues on the other side of its borders."""
        height, width = samples.shape[:2]
        stages, size = self.stages_for((height, width)), self.size_of_result((height, width))
        natural, reach = sizes_along(stages, (height, width))[-1], 2 * reach_of(stages)
        around = np.pad(samples, ((reach, reach), (reach, reach), (0, 0)), mode="wrap")
        own = samples.dtype.name
        if size != natural:
            around = as_depth(around, "float32")
        layout = Layout(around.shape[0], around.shape[1], *_channels(samples), around.dtype.name)
        enlarged = sizes_along(stages, around.shape[:2])[-1]
        with self._lock:
            pipeline = build_pipeline(layout, stages, enlarged, self.tile())
        scale = prod((scale_of(stage) for stage in stages), start=Fraction(1))
        first = int(reach * scale)
        whole = Rows(0, around.shape[0])
        rows = pipeline.rows(around, whole, Rows(first, first + natural[0]))
        result = rows[:, first : first + natural[1]]
        if size == natural:
            return result
        return as_depth(resize(result.astype(np.float32, copy=False), *size, border="wrap"), own)

    def _stage_of(self, model: str | os.PathLike[str] | Model) -> Stage:
        if not isinstance(model, Model) and is_foreign(model):
            return self._foreign_stage_of(model)
        found = model if isinstance(model, Model) else load(model)
        options = self.options
        return self._turned(stage_of(found, chosen(found, options.runtime, options.precision), options))

    def _foreign_stage_of(self, model: str | os.PathLike[str]) -> Stage:
        from onebranch.model.foreign import read_foreign  # imported late: our own models do without it

        options = self.options
        found = read_foreign(find(model))
        network = open_foreign(found, options.runtime, options.threads, options.memory, options.precision)
        return self._turned(ArrayStage(found, network, options.chroma))

    def _turned(self, stage: Stage) -> Stage:
        """The stage, or the mean of its turns where that is asked for."""
        return EnsembleStage(stage, self.tile()) if self.options.self_ensemble else stage


def _channels(samples: Samples) -> tuple[int, bool]:
    """Channels without alpha, and whether there is alpha."""
    bands = samples.shape[2]
    return (1 if bands < 3 else 3), bands in (2, 4)


def stage_of(model: Model, choice: Choice, options: Options) -> Stage:
    """The model at work on pictures in what was chosen: the fastest stage that this runtime has."""
    if choice.runtime == "engine":
        from onebranch.enhancer.engine_stage import EngineStage  # imported late: it may not be built

        return EngineStage(model, options.chroma, options.threads, choice.precision)
    if choice.runtime == "onnxruntime" and choice.precision == "fp32":
        return GraphStage(model, options.chroma, options.threads)
    network = open_runtime(model, choice.runtime, options.threads, choice.precision)
    return ArrayStage(model, network, options.chroma)
