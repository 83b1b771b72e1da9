"""Training from a config file or a config."""

import os
from pathlib import Path

from onebranch.training import config as configs
from onebranch.training import loop
from onebranch.training.config import Config


def train(
    config: Config | str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    restart: bool = False,
    quiet: bool = True,
    limit_seconds: float | None = None,
) -> Path:
    """Train the network that a config describes; returns the path of the trained model file.

    config: a TOML file (`onebranch new-config` writes one with every key explained) or a `Config`. out: the
    folder of the run, by default runs/NAME; it receives checkpoint.safetensors, log.jsonl, log.png and
    NAME.safetensors. restart: start over even if the folder holds a checkpoint; otherwise a run that was
    stopped resumes from it. quiet: print nothing. limit_seconds: stop after that time; then the path is that
    of the checkpoint, which is a usable model as well. Needs the extra `train`.

    Raises OnebranchError that names the key for an invalid config, for pictures that cannot be used, and if
    the loss is no longer finite.

    >>> train("absent.toml")
    Traceback (most recent call last):
    onebranch.errors.OnebranchError: absent.toml: there is no such config file
    """
    settings = config if isinstance(config, Config) else configs.read(Path(config))
    folder = Path("runs") / settings.name if out is None else Path(out)
    return loop.train(settings, folder, resumes=not restart, shown=not quiet, limit_seconds=limit_seconds)
