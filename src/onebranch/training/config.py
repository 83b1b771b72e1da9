"""The training config: frozen, strict, read from TOML; the resolved one travels with the weights."""

import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec

from onebranch.errors import OnebranchError
from onebranch.spec.network import NetworkSpec, convert
from onebranch.spec.shorthand import NetworkShorthand, expand

MOST = 2**62
"""Largest number where nothing else is the limit."""


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Pictures to learn from. Relative folders are taken from the config file's own folder."""

    train: str
    low_quality: str | None = None
    validation: str | None = None
    validation_low_quality: str | None = None
    validation_pictures: int = 16
    patch: int = 32
    augment: bool = True
    sigma: tuple[float, float] = (0.0, 50.0)
    cache: str = ".cache/onebranch"


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How to learn. Steps are optimizer steps; fractions are of `steps`."""

    steps: int = 100_000
    batch: int = 16
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 2e-3
    warm_up: int = 200
    final_rate: float = 0.0
    loss: Literal["l1", "charbonnier", "mse"] = "l1"
    clip: float = 1.0
    average: float = 0.999
    freeze_batch_norm: float = 0.2
    forward: Literal["auto", "branches", "merged"] = "auto"
    precision: Literal["float32", "bfloat16", "float64"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | Literal["auto"] = "auto"
    validate_every: int = 2000
    checkpoint_every: int = 2000
    init_from: str | None = None
    restorer: str | None = None
    restorer_weight: float = 1.0
    picture_weight: float = 1.0


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole training run."""

    name: str
    seed: int = 0
    network: NetworkShorthand
    data: Data
    training: Training = Training()

    def __post_init__(self) -> None:
        """Check the ranges that types do not."""
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
        config: Config = convert(table, Config, str(path))
        _ = config.spec
    except OnebranchError as error:
        said = str(error).removeprefix(f"{path}: ").removeprefix("config: ")
        raise OnebranchError(f"{path}: {said}") from None
    return _with_folders(config, path.resolve().parent)


def to_dict(config: Config) -> dict[str, Any]:
    """The resolved config as plain values."""
    plain: dict[str, Any] = msgspec.to_builtins(config)
    return plain


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
        ),
    )


def _file_or_name(value: str | None, base: Path) -> str | None:
    """A model's name stays; a file is taken from the config's folder."""
    return str(base / value) if value and value.endswith(".safetensors") else value


def _check(config: Config) -> None:
    training, data = config.training, config.data
    ranges: dict[str, tuple[float, float, float]] = {
        "seed": (config.seed, 0, MOST),
        "training.steps": (training.steps, 1, MOST),
        "training.batch": (training.batch, 1, 2**16),
        "training.warm_up": (training.warm_up, 0, MOST),
        "training.validate_every": (training.validate_every, 1, MOST),
        "training.checkpoint_every": (training.checkpoint_every, 1, MOST),
        "training.threads": (1 if training.threads == "auto" else training.threads, 1, 1024),
        "training.clip": (training.clip, 0, MOST),
        "training.learning_rate": (training.learning_rate, 0, MOST),
        "training.final_rate": (training.final_rate, 0, MOST),
        "training.restorer_weight": (training.restorer_weight, 0, MOST),
        "training.picture_weight": (training.picture_weight, 0, MOST),
        "training.average": (training.average, 0, 1),
        "training.freeze_batch_norm": (training.freeze_batch_norm, 0, 1),
        "data.patch": (data.patch, 4, 2**16),
        "data.validation_pictures": (data.validation_pictures, 1, MOST),
        "data.sigma": (data.sigma[0], 0, 255),
        "data.sigma[1]": (data.sigma[1], 0, 255),
    }
    for key, (value, least, most) in ranges.items():
        if not least <= value <= most:  # NaN is nowhere
            rule = f"at least {least}" if value < least else f"from {least} to {most}"
            raise OnebranchError(f"config: '{key}' must be {rule}, not {value}")
    name = config.name
    if name in ("", "..") or name != Path(name).name or not name.isprintable() or len(name) > 100:
        raise OnebranchError(
            f"config: 'name' must be a file's name of 1 to 100 characters, without '/', not '{name}'"
        )
    if data.sigma[1] < data.sigma[0]:
        raise OnebranchError(f"config: 'data.sigma' must be [least, most], not {list(data.sigma)}")
    if training.restorer and config.network.task != "downscale":
        raise OnebranchError("config: 'training.restorer' is for task 'downscale'; leave it out")
