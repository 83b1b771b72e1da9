"""The training config: frozen, strict, read from TOML; the resolved one travels with the weights."""

import math
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import msgspec

from onebranch.errors import OnebranchError
from onebranch.spec.network import NetworkSpec, convert
from onebranch.spec.renamed_keys import renamed_key
from onebranch.spec.shorthand import NetworkShorthand, expand
from onebranch.training.degradation import Degradation

UNLIMITED = 2**62
"""Largest accepted value of settings without a limit of their own."""

PIXEL_UNITS = {"K": 10**3, "M": 10**6, "G": 10**9}
"""Suffixes of `training.pixels`."""


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The pictures. Relative folders are taken from the config file's own folder."""

    train: str
    """Folder of high-quality pictures, searched recursively."""
    low_quality: str | None = None
    """Folder of their low-quality partners; None: they are computed from the pictures."""
    low_quality_suffix: str | None = None
    """Suffix of a partner's name after the picture's: "x2" for 0001.png and 0001x2.png; None: detected."""
    validation: str | None = None
    """Folder of pictures to validate on; None: no validation."""
    validation_low_quality: str | None = None
    """Folder of the validation pictures' low-quality partners."""
    validation_pictures: int = 16
    """How many pictures of the validation folder are used: the first ones, sorted by name."""
    on_error: Literal["stop", "skip"] = "stop"
    """What to do with pictures that cannot be read: stop and name all of them, or leave them out."""
    patch_size: int = 32
    """Side of a crop in pixels of the low-resolution picture (input for upscaling, label for downscaling)."""
    augment: bool = True
    """Random flips and quarter turns."""
    sigma: tuple[float, float] = (0.0, 50.0)
    """Range of Gaussian noise for task 'denoise', in 8-bit grey levels; one level is drawn per crop."""
    degradation: Degradation | None = None
    """Random degradations for real photographs, in place of the bicubic reduction or of `sigma`."""
    cache: str = ".cache/onebranch"
    """Folder of the decoded pictures, relative to the working directory."""


LossName = Literal["l1", "charbonnier", "mse"]


class TrainingStage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A later part of the run with its own settings. Settings that it does not name keep their values."""

    start_fraction: float
    """Fraction of the steps after which the stage begins."""
    loss: LossName | None = None
    """Loss of the stage; None: unchanged."""
    batch_size: int | None = None
    """Crops per step of the stage, over all processes; None: unchanged."""
    ema_decay: float | None = None
    """Decay of the averaged weights in the stage; None: unchanged."""
    learning_rate: float | None = None
    """The rate at which a new cosine begins with the stage; None: the cosine goes on."""


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The optimization. Steps are optimizer steps; fractions are of `steps`."""

    steps: int = 100_000
    """Length of the run in steps."""
    pixels: str | None = None
    """Length of the run in pixels of the low-resolution picture, such as "15G", instead of `steps`."""
    batch_size: int = 16
    """Crops per step, over all processes."""
    optimizer: Literal["adam", "muon", "sgd"] = "adam"
    """Muon updates the kernels of the blocks, with Adam for everything else."""
    learning_rate: float = 2e-3
    """The highest learning rate, reached after the warm-up."""
    warmup_steps: int = 200
    """Steps over which the learning rate rises linearly; afterwards it follows a cosine."""
    final_learning_rate: float = 0.0
    """Learning rate at the end of the cosine."""
    loss: LossName = "l1"
    """Mean absolute error, Charbonnier (epsilon 1e-3) or mean squared error."""
    loss_border: int = 0
    """Input pixels at each side of a crop that the loss leaves out: zero padding distorts them."""
    grad_clip_norm: float = 1.0
    """Largest norm of the gradient; 0: no clipping."""
    ema_decay: float = 0.999
    """Decay of the exponential moving average of the weights; the averaged weights are saved."""
    bn_freeze_fraction: float = 0.2
    """Last fraction of the steps during which BN uses its population statistics; 0: never frozen."""
    forward: Literal["auto", "branches", "merged"] = "auto"
    """How blocks run: as branches, with merged kernels, or with these as soon as they are defined."""
    prelu: Literal["auto", "native", "relu", "masked"] = "auto"
    """How PReLU is computed, see `nn.prelu.TrainablePReLU`; auto: the fastest way here."""
    compile: Literal["auto", "always", "never"] = "auto"
    """Whether `torch.compile` compiles steps on the CPU; auto: those of long runs, if there is a compiler."""
    precision: Literal["float32", "bfloat16", "float64"] = "float32"
    """Number format; bfloat16 applies to the blocks only, everything else stays float32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of every process; auto: a GPU if there is one."""
    threads: int | Literal["auto"] = "auto"
    """CPU threads of a process; auto: the fastest number, found by timing a few steps."""
    workers: int | Literal["auto"] = "auto"
    """Processes that prepare crops; 0: a thread does; auto: 0 on the CPU, all cores but one for a GPU."""
    validate_every: int = 2000
    """Steps between validations."""
    checkpoint_every: int = 2000
    """Steps between checkpoints; one is written every two minutes in any case."""
    init_from: str | None = None
    """Model (name or file) whose weights the run starts from."""
    quantization_aware: bool = False
    """Round kernels and feature maps to 8 bits in every step, with the scales of the model in `init_from`."""
    stages: tuple[TrainingStage, ...] = ()
    """Later parts of the run, in order of their start."""
    teacher: str | None = None
    """Model (name or file) of the same task, scale and colour whose results the network also learns from."""
    teacher_weight: float = 1.0
    """Weight of the loss against the teacher's results."""
    teacher_features_weight: float = 0.0
    """Weight of the difference between the spatial attention of both networks' last features."""
    restorer: str | None = None
    """Task 'downscale': the upscaler (name or file) that enlarges the result again for the loss."""
    restorer_learns: bool = False
    """Whether the restorer is trained as well; it is written as NAME-restorer.safetensors."""
    restorer_weight: float = 1.0
    """Weight of the loss after enlarging again."""
    picture_weight: float = 1.0
    """Weight of the loss against the bicubic reduction, where there is a restorer."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole training run."""

    name: str
    """Name of the run and of the trained model."""
    seed: int = 0
    """Determines the initial weights and all crops."""
    network: NetworkShorthand
    """The network to train."""
    data: Data
    """The pictures to train on."""
    training: Training = Training()
    """The optimization."""

    def __post_init__(self) -> None:
        """Check the ranges that types do not express; raises OnebranchError."""
        _check(self)

    @property
    def spec(self) -> NetworkSpec:
        """The network's full spec."""
        return expand(self.network)


def read(path: Path) -> Config:
    """The config in a TOML file. Raises OnebranchError naming the key and the nearest valid one."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise OnebranchError(f"{path}: there is no such config file") from None
    except OSError as error:
        raise OnebranchError(f"{path}: cannot read this config: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OnebranchError(f"{path}: not valid TOML: {error}") from None
    try:
        _refuse_conflicting_keys(table)
        config: Config = convert(table, Config, str(path))
        _ = config.spec
    except OnebranchError as error:
        message = str(error).removeprefix(f"{path}: ").removeprefix("config: ")
        raise OnebranchError(f"{path}: {message}") from None
    return _with_folders(_with_steps(config), path.resolve().parent)


def to_dict(config: Config) -> dict[str, Any]:
    """The resolved config as plain values."""
    plain: dict[str, Any] = msgspec.to_builtins(config)
    return plain


def steps_for(pixels: int, config: Config) -> int:
    """The smallest number of steps that uses at least `pixels` pixels of the low-resolution pictures."""
    options = config.training
    starts = [0.0, *(stage.start_fraction for stage in options.stages), 1.0]
    sizes = [options.batch_size]
    for stage in options.stages:
        sizes.append(stage.batch_size or sizes[-1])
    parts = zip(sizes, pairwise(starts), strict=True)
    crops_per_step = sum(size * (end - start) for size, (start, end) in parts)
    return math.ceil(pixels / (crops_per_step * config.data.patch_size**2))


def parse_pixels(text: str) -> int:
    """A number of pixels with a unit.

    >>> parse_pixels("1.5G")
    1500000000
    """
    factor = PIXEL_UNITS.get(text[-1:].upper(), 1)
    try:
        pixels = float(text.rstrip("KMGkmg")) * factor
    except ValueError:
        pixels = math.nan
    if not 1 <= pixels <= UNLIMITED:
        raise OnebranchError(
            f"config: 'training.pixels' must be a number with K, M or G behind it such as '15G', not '{text}'"
        )
    return round(pixels)


def _refuse_conflicting_keys(table: dict[str, Any]) -> None:
    """Raise OnebranchError for an old key name, or if both `steps` and `pixels` are given."""
    if renamed := renamed_key(table):
        raise OnebranchError(f"config: '{renamed[0]}' is called '{renamed[1]}' since version 0.2")
    training = table.get("training")
    if isinstance(training, dict) and "steps" in training and "pixels" in training:
        raise OnebranchError(
            "config: 'training.steps' and 'training.pixels' both give the length of the run; leave one out"
        )


def _with_steps(config: Config) -> Config:
    """The config with `steps` computed from `pixels`, where these are given."""
    if config.training.pixels is None:
        return config
    steps = steps_for(parse_pixels(config.training.pixels), config)
    return msgspec.structs.replace(config, training=msgspec.structs.replace(config.training, steps=steps))


def _with_folders(config: Config, base: Path) -> Config:
    """Relative folders and files resolved against the config's folder; `cache` against the run's."""
    data, training = config.data, config.training
    return msgspec.structs.replace(
        config,
        data=msgspec.structs.replace(
            data,
            train=str(base / data.train),
            low_quality=data.low_quality and str(base / data.low_quality),
            validation=data.validation and str(base / data.validation),
            validation_low_quality=data.validation_low_quality and str(base / data.validation_low_quality),
        ),
        training=msgspec.structs.replace(
            training,
            init_from=_file_or_name(training.init_from, base),
            restorer=_file_or_name(training.restorer, base),
            teacher=_file_or_name(training.teacher, base),
        ),
    )


def _file_or_name(value: str | None, base: Path) -> str | None:
    """A model's name is unchanged; the path of a file is resolved against the config's folder."""
    return str(base / value) if value and value.endswith(".safetensors") else value


def _check(config: Config) -> None:
    ranges = _ranges(config) | _degradation_ranges(config) | _interval_ranges(config) | _stage_ranges(config)
    for key, (value, lowest, highest) in ranges.items():
        if not lowest <= value <= highest:  # also refuses NaN
            rule = f"at least {lowest}" if value < lowest else f"from {lowest} to {highest}"
            raise OnebranchError(f"config: '{key}' must be {rule}, not {value}")
    _check_name(config.name)
    _check_combinations(config)
    if config.training.pixels is not None:
        parse_pixels(config.training.pixels)


def _ranges(config: Config) -> dict[str, tuple[float, float, float]]:
    """Value, lowest and highest allowed value by key."""
    training, data = config.training, config.data
    return {
        "seed": (config.seed, 0, UNLIMITED),
        "training.steps": (training.steps, 1, UNLIMITED),
        "training.batch_size": (training.batch_size, 1, 2**16),
        "training.warmup_steps": (training.warmup_steps, 0, UNLIMITED),
        "training.validate_every": (training.validate_every, 1, UNLIMITED),
        "training.checkpoint_every": (training.checkpoint_every, 1, UNLIMITED),
        "training.threads": (1 if training.threads == "auto" else training.threads, 1, 1024),
        "training.workers": (0 if training.workers == "auto" else training.workers, 0, 1024),
        "training.teacher_weight": (training.teacher_weight, 0, UNLIMITED),
        "training.teacher_features_weight": (training.teacher_features_weight, 0, UNLIMITED),
        "training.grad_clip_norm": (training.grad_clip_norm, 0, UNLIMITED),
        "training.learning_rate": (training.learning_rate, 0, UNLIMITED),
        "training.final_learning_rate": (training.final_learning_rate, 0, UNLIMITED),
        "training.loss_border": (training.loss_border, 0, (data.patch_size - 1) // 2),
        "training.restorer_weight": (training.restorer_weight, 0, UNLIMITED),
        "training.picture_weight": (training.picture_weight, 0, UNLIMITED),
        "training.ema_decay": (training.ema_decay, 0, 1),
        "training.bn_freeze_fraction": (training.bn_freeze_fraction, 0, 1),
        "data.patch_size": (data.patch_size, 4, 2**16),
        "data.validation_pictures": (data.validation_pictures, 1, UNLIMITED),
    }


def _stage_ranges(config: Config) -> dict[str, tuple[float, float, float]]:
    """The ranges of the stages: each begins after the one before it, within the run."""
    ranges: dict[str, tuple[float, float, float]] = {}
    earliest = 0.0
    for number, stage in enumerate(config.training.stages, 1):
        key = f"training.stages (number {number})"
        ranges[f"{key}.start_fraction"] = (stage.start_fraction, earliest, 1)
        ranges[f"{key}.batch_size"] = (1 if stage.batch_size is None else stage.batch_size, 1, 2**16)
        ranges[f"{key}.ema_decay"] = (0 if stage.ema_decay is None else stage.ema_decay, 0, 1)
        ranges[f"{key}.learning_rate"] = (stage.learning_rate or 0, 0, UNLIMITED)
        earliest = stage.start_fraction
    return ranges


def _degradation_ranges(config: Config) -> dict[str, tuple[float, float, float]]:
    options = config.data.degradation
    if options is None:
        return {}
    originals = ("graphics", "recolour", "soft", "grain")
    kinds = (*originals, "clean", "detour", "blur", "noise", "compression", "webp")
    probabilities: dict[str, tuple[float, float, float]] = {
        f"data.degradation.{kind}_probability": (getattr(options, f"{kind}_probability"), 0, 1)
        for kind in kinds
    }
    return probabilities | {
        "data.degradation.resamplers (their number)": (len(options.resamplers), 1, UNLIMITED),
    }


def _intervals(data: Data) -> dict[str, tuple[tuple[float, float], float, float]]:
    """The settings [lowest, highest] by key, with the lowest and highest allowed value of both."""
    intervals: dict[str, tuple[tuple[float, float], float, float]] = {"data.sigma": (data.sigma, 0, 255)}
    if (options := data.degradation) is not None:
        intervals |= {
            "data.degradation.soft_sigma": (options.soft_sigma, 0, 100),
            "data.degradation.grain_sigma": (options.grain_sigma, 0, 255),
            "data.degradation.grain_size": (options.grain_size, 0.1, 4),
            "data.degradation.blur_sigma": (options.blur_sigma, 0, 100),
            "data.degradation.noise_sigma": (options.noise_sigma, 0, 255),
            "data.degradation.quality": (options.quality, 1, 100),
        }
    return intervals


def _interval_ranges(config: Config) -> dict[str, tuple[float, float, float]]:
    return {
        f"{key}[{index}]": (value, lowest, highest)
        for key, (interval, lowest, highest) in _intervals(config.data).items()
        for index, value in enumerate(interval)
    }


def _check_name(name: str) -> None:
    if name in ("", "..") or name != Path(name).name or not name.isprintable() or len(name) > 100:
        raise OnebranchError(
            f"config: 'name' must be a file's name of 1 to 100 characters, without '/', not '{name}'"
        )


def _check_quantization_aware(training: Training) -> None:
    if not training.quantization_aware:
        return
    if training.init_from is None:
        raise OnebranchError(
            "config: 'training.quantization_aware' needs 'training.init_from', a quantized model whose"
            " scales it takes"
        )
    if training.forward == "branches":
        raise OnebranchError(
            "config: 'training.quantization_aware' rounds merged kernels; leave out 'training.forward'"
        )
    if training.precision == "bfloat16":
        raise OnebranchError(
            "config: 'training.quantization_aware' needs 'training.precision' = \"float32\" or \"float64\":"
            " bfloat16 is too coarse for 256 levels"
        )


def _check_combinations(config: Config) -> None:
    training, data, task = config.training, config.data, config.network.task
    for key, (interval, _, _) in _intervals(data).items():
        if interval[1] < interval[0]:
            raise OnebranchError(f"config: '{key}' must be [lowest, highest], not {list(interval)}")
    _check_quantization_aware(training)
    if training.restorer and task != "downscale":
        raise OnebranchError("config: 'training.restorer' is for task 'downscale'; leave it out")
    if training.restorer_learns and not training.restorer:
        raise OnebranchError(
            "config: 'training.restorer_learns' needs 'training.restorer', the upscaler to start from"
        )
    if data.degradation is not None and (task == "downscale" or data.low_quality):
        raise OnebranchError(
            "config: 'data.degradation' makes the inputs of tasks 'upscale' and 'denoise';"
            " leave it out for 'downscale' and beside 'data.low_quality'"
        )
