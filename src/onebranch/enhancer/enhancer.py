"""Enhancement of one picture: it opens the models, selects tiles and bands, and runs the row pipeline."""

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from math import prod
from typing import Unpack

import numpy as np

from onebranch.enhancer.device import StageOpener, check_request, open_stage
from onebranch.enhancer.ensemble import EnsembleStage
from onebranch.enhancer.finite import may_overflow
from onebranch.enhancer.options import (
    Options,
    OptionValues,
    Size,
    models_for,
    requested_factor,
    requested_size,
)
from onebranch.enhancer.row_pipeline import RowPipeline, build_pipeline, receptive_radius, sizes_along
from onebranch.enhancer.stage import ArrayStage, GraphStage, ModelDescription, Stage, scale_of
from onebranch.enhancer.steps import Rows
from onebranch.enhancer.streaming import all_rows, enhanced_rows
from onebranch.enhancer.strength import StrengthStage
from onebranch.enhancer.tiles import tile_for
from onebranch.images.picture import Picture
from onebranch.images.reading import read
from onebranch.images.resize import resize
from onebranch.images.rows import Layout, Reader
from onebranch.images.samples import Samples, as_depth
from onebranch.model.catalogue import find, load, quantized_name
from onebranch.model.file import Model
from onebranch.model.third_party import is_third_party_file, require_reader
from onebranch.runtime.cores import cores
from onebranch.runtime.gpu import (
    GPU_PRECISION,
    check_model,
    names_gpu,
    open_foreign_on,
    open_on,
)
from onebranch.runtime.memory import memory_limit
from onebranch.runtime.protocol import Runtime
from onebranch.runtime.selection import (
    FAST,
    RuntimeChoice,
    check_available,
    chosen,
    open_foreign,
    open_runtime,
    resolve_precision,
)
from onebranch.spec.network import to_json

DEFAULT_ROW_BYTES = 1 << 29
"""Default memory limit for the rows of a picture, in bytes. More memory would not be faster."""


def enhance(
    picture: Picture | str | os.PathLike[str],
    model: str | os.PathLike[str] | Model | None = None,
    **options: Unpack[OptionValues],
) -> Picture:
    """The enhanced picture, in the depth and colours of the input; alpha and metadata are kept.

    picture: a `Picture` or a file. model: the name of a shipped model, a model file, any ONNX file, PyTorch
    weights, or a `Model`; by default restore-x2, or the models that reach the requested scale. options: see
    `Options`. A greyscale picture stays greyscale. Raises OnebranchError for files that cannot be read,
    models that cannot be run, and contradictory options.

    >>> enhance(Picture(np.zeros((10, 16, 3), np.uint8))).pixels.shape
    (20, 32, 3)
    """
    source = picture if isinstance(picture, Picture) else read(os.fspath(picture))
    return Enhancer(Options(model=model, **options)).enhance(source)


class Enhancer:
    """Enhances any number of pictures with models that are opened only once. Thread-safe.

    concurrency: number of pictures that are enhanced at the same time and share the cores and the memory.
    """

    def __init__(self, options: Options, concurrency: int = 1) -> None:
        _check_request(options)  # once, before any picture
        if names_gpu(options.device) and options.precision == FAST:
            options = replace(options, precision=GPU_PRECISION)
        if concurrency > 1 and options.threads is None:
            options = replace(options, threads=max(1, cores() // concurrency))
        self.options, self.concurrency = options, concurrency
        self._opened: dict[str, Stage] = {}
        self._versions: dict[str, str] = {}
        self._devices: dict[str, str] = {}
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
        """The row pipeline for pictures of that layout, unless `wrap` is set, which needs whole pictures."""
        size = layout.height, layout.width
        stages = self.stages_for(size)
        with self._lock:  # stages open a session for every new kind of picture
            return build_pipeline(layout, stages, self.size_of_result(size), self.tile())

    def rows(self, reader: Reader) -> Iterator[Samples]:
        """The result in bands of rows, from the top. The next rows of the picture are read in parallel."""
        layout = reader.header.layout
        if self.options.wrap:
            yield self._wrapped(all_rows(reader))
        else:
            yield from enhanced_rows(reader, self.pipeline(layout), self.memory())

    def bytes_for(self, layout: Layout) -> int:
        """The estimated bytes of the rows in memory while a picture is enhanced."""
        pipeline, limit = self.pipeline(layout), self.memory()
        whole = pipeline.whole or self.options.wrap
        height = pipeline.target.height
        rows = height if whole else min(height, pipeline.band_height(limit))
        return rows * pipeline.bytes_of_row()

    def needs_whole(self, layout: Layout) -> bool:
        """True if a network needs the whole picture at once."""
        return self.pipeline(layout).whole

    def memory(self) -> int:
        """The limit, in bytes, of the rows in memory while one picture is enhanced."""
        limit = self.options.memory
        available = min(memory_limit(None), DEFAULT_ROW_BYTES) if limit is None else limit // 4
        return available // self.concurrency

    def tile(self) -> int:
        """Side length of tiles in pixels, for stages that use tiles."""
        return self.options.tile or tile_for(self.memory())

    def size_of_result(self, picture: Size) -> Size:
        """(height, width) of the result for a picture of that size."""
        stages = self.stages_for(picture)
        scale = prod((scale_of(stage) for stage in stages), start=Fraction(1))
        return requested_size(self.options, picture, sizes_along(stages, picture)[-1], scale)

    def stages_for(self, picture: Size) -> list[Stage]:
        """The stages for a picture of that size, in the order in which they run."""
        if self._fixed is not None:
            return [self._fixed]
        names = models_for(requested_factor(self.options, picture))
        with self._lock:
            names = [self._version(name) for name in names]
            for name in names:
                if name not in self._opened:
                    self._opened[name] = self._stage_of(name)
            return [self._opened[name] for name in names]

    def _version(self, name: str) -> str:
        """The shipped model itself, or its 8-bit version where the requested precision is int8.

        "fast" is int8 where that is faster than fp32 on this machine.
        """
        quantized, precision = quantized_name(name), self.options.precision
        if name == quantized or precision not in ("int8", FAST):
            return name
        if precision == FAST and name not in self._versions:
            is_int8 = resolve_precision(load(quantized), FAST, self.options.runtime) == "int8"
            self._versions[name] = quantized if is_int8 else name
        return self._versions.get(name, quantized)

    def precisions_for(self, picture: Size) -> list[str]:
        """The precisions of the stages for a picture of that size, each once, in the order of the stages."""
        options = self.options
        models = [stage.model for stage in self.stages_for(picture) if isinstance(stage.model, Model)]
        return list(dict.fromkeys(resolve_precision(m, options.precision, options.runtime) for m in models))

    def devices_for(self, picture: Size) -> list[str]:
        """The devices of the stages for a picture of that size, each once, in the order of the stages."""
        return list(dict.fromkeys(self._devices[stage.model.name] for stage in self.stages_for(picture)))

    def _all_rows(self, layout: Layout, samples: Samples) -> Samples:
        """The complete result, computed band by band."""
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
        """The result for a seamless texture: it is padded with its opposite sides; the result is cropped."""
        height, width = samples.shape[:2]
        stages, size = self.stages_for((height, width)), self.size_of_result((height, width))
        native, padding = sizes_along(stages, (height, width))[-1], 2 * receptive_radius(stages)
        padded = np.pad(samples, ((padding, padding), (padding, padding), (0, 0)), mode="wrap")
        depth = samples.dtype.name
        if size != native:
            padded = as_depth(padded, "float32")
        layout = Layout(padded.shape[0], padded.shape[1], *_channels(samples), padded.dtype.name)
        padded_result = sizes_along(stages, padded.shape[:2])[-1]
        with self._lock:
            pipeline = build_pipeline(layout, stages, padded_result, self.tile())
        scale = prod((scale_of(stage) for stage in stages), start=Fraction(1))
        first = int(padding * scale)
        all_rows = Rows(0, padded.shape[0])
        rows = pipeline.rows(padded, all_rows, Rows(first, first + native[0]))
        result = rows[:, first : first + native[1]]
        if size == native:
            return result
        return as_depth(resize(result.astype(np.float32, copy=False), *size, border="wrap"), depth)

    def _stage_of(self, model: str | os.PathLike[str] | Model) -> Stage:
        if not isinstance(model, Model) and is_third_party_file(model):
            return self._third_party_stage(model)
        ours = model if isinstance(model, Model) else load(model)
        options = self.options
        opener = StageOpener(
            ours,
            lambda: stage_of(ours, chosen(ours, options.runtime, options.precision), options),
            lambda gpu: open_on(gpu, ours, options.threads),
            lambda: check_model(ours, options.precision, options.runtime),
            lambda: to_json(ours.spec),
        )
        return self._adapted(opener)

    def _third_party_stage(self, model: str | os.PathLike[str]) -> Stage:
        require_reader(model, "running")
        from onebranch.graph.analysis.valid_sizes import as_input_size  # imported late: only for these files
        from onebranch.model.foreign import read_foreign

        options = self.options
        size = None if options.input_size is None else as_input_size(tuple(options.input_size))
        third_party = read_foreign(find(model), size)
        arguments = options.runtime, options.threads, options.memory, options.precision
        opener = StageOpener(
            third_party,
            lambda: _stage_around(third_party, open_foreign(third_party, *arguments), options),
            lambda gpu: open_foreign_on(gpu, third_party, options.threads, options.memory),
            lambda: None,
            lambda: _digest(third_party.content or third_party.path.read_bytes()),
        )
        return self._adapted(opener)

    def _adapted(self, opener: StageOpener) -> Stage:
        """The stage on its device, wrapped in a self-ensemble, a strength, or both, as requested."""
        opened = open_stage(opener, self.options)
        stage = opened.stage
        self._devices[stage.model.name] = opened.device
        if self.options.self_ensemble:
            stage = EnsembleStage(stage, self.tile())
        return stage if self.options.strength == 1 else StrengthStage(stage, self.options.strength)


def _check_request(options: Options) -> None:
    """Raise OnebranchError for a runtime, precision or GPU that is named and cannot be used here."""
    check_request(options)
    if not names_gpu(options.device):
        check_available(options.runtime, options.precision)


def _digest(content: bytes) -> str:
    import hashlib  # imported late: it loads OpenSSL, which enhancing does not need

    return hashlib.sha256(content).hexdigest()


def _channels(samples: Samples) -> tuple[int, bool]:
    """The number of channels without alpha, and True if there is alpha."""
    bands = samples.shape[2]
    return (1 if bands < 3 else 3), bands in (2, 4)


def _stage_around(model: ModelDescription, network: Runtime, options: Options) -> Stage:
    """The stage of a third-party network in its runtime."""
    if network.name != "engine":
        return ArrayStage(model, network, options.chroma)
    from onebranch.enhancer.program_stage import ProgramStage  # imported late: it may not be built
    from onebranch.runtime.program import ProgramRuntime

    assert isinstance(network, ProgramRuntime), "the engine runs third-party networks as programs"
    return ProgramStage(model, network, options.chroma)


def stage_of(model: Model, choice: RuntimeChoice, options: Options) -> Stage:
    """The fastest stage that runs the model in the chosen runtime and precision."""
    checked = may_overflow(model)  # only an ArrayStage has float outputs to check
    if choice.runtime == "engine" and not checked:
        from onebranch.enhancer.engine_stage import EngineStage  # imported late: the engine may not be built

        return EngineStage(model, options.chroma, options.threads, choice.precision)
    if choice.runtime == "onnxruntime" and choice.precision == "fp32" and not checked:
        return GraphStage(model, options.chroma, options.threads)
    network = open_runtime(model, choice.runtime, options.threads, choice.precision)
    return ArrayStage(model, network, options.chroma)
