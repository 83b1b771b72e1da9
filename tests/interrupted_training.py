"""Training runs that are stopped at chosen steps and resumed."""

from pathlib import Path

import numpy as np
import pytest

from onebranch.model import file
from onebranch.training.config import Config
from onebranch.training.loop import train
from onebranch.training.schedule import Schedule


class Stop(Exception):
    """Ends a run in the middle of a step, as a kill would."""


def assert_resumes_bit_for_bit(
    config: Config, folder: Path, stops: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Train once in `folder`/whole, and in `folder`/parts with a stop at each step; the weights are equal."""
    whole = file.read(train(config, folder / "whole", shown=False))
    rate = Schedule.learning_rate
    for stop in stops:

        def stopping(schedule: Schedule, step: int, stop: int = stop) -> float:
            if step == stop:
                raise Stop
            return rate(schedule, step)

        monkeypatch.setattr(Schedule, "learning_rate", stopping)
        with pytest.raises(Stop):
            train(config, folder / "parts", shown=False)
    monkeypatch.setattr(Schedule, "learning_rate", rate)
    parts = file.read(train(config, folder / "parts", shown=False))
    for name, value in whole.weights.items():
        np.testing.assert_array_equal(parts.weights[name], value, err_msg=name)
