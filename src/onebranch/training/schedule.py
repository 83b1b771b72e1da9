"""The settings of every step: learning rate, loss, batch size and decay of the average, stage by stage."""

import math
from dataclasses import dataclass
from itertools import pairwise

from onebranch.training.config import Config, Training


@dataclass(frozen=True)
class StepSettings:
    """What may change from stage to stage; the learning rate changes with every step."""

    loss: str
    batch_size: int
    """Crops per step, over all processes."""
    ema_decay: float


@dataclass(frozen=True)
class SchedulePart:
    """The steps from `first` (included) to `end` (excluded) and their settings."""

    first: int
    end: int
    settings: StepSettings


@dataclass(frozen=True)
class Cosine:
    """The steps from `first` to `end` over which the learning rate falls from `highest`."""

    first: int
    end: int
    highest: float


class Schedule:
    """The settings of a run by step.

    Worked example: 1,000 steps with a warm-up of 100 and one later stage with start_fraction = 0.75 and
    learning_rate = 1e-4. Steps 0 to 749 are the first stage: the rate rises to `learning_rate` at step 99
    and falls along a cosine that ends at step 750. Steps 750 to 999 are the second stage, with a cosine that
    begins at 1e-4.
    """

    def __init__(self, config: Config) -> None:
        options = config.training
        self.options = options
        self.pixels_per_crop = config.data.patch_size**2
        self.stages = _stages(options)
        self.cosines = _cosines(options)

    def stage(self, step: int) -> SchedulePart:
        """The stage of a step; steps after the last one belong to the last stage."""
        return next((stage for stage in self.stages if step < stage.end), self.stages[-1])

    def learning_rate(self, step: int) -> float:
        """The rate of a step: linear warm-up, then a cosine down to `final_learning_rate`."""
        # Example: rate 0.002, 200 steps of warm-up, 1,000 steps, final rate 0. Step 99: 0.001 (linear). Step
        # 200: 0.002. Step 600: 0.001 (the middle of the cosine). Step 999: 8e-9 (nearly 0).
        options = self.options
        if step < options.warmup_steps:
            return options.learning_rate * (step + 1) / options.warmup_steps
        cosine = next((c for c in self.cosines if step < c.end), self.cosines[-1])
        done = (step - cosine.first) / max(1, cosine.end - cosine.first)
        half = (1 + math.cos(math.pi * min(1.0, done))) / 2
        return options.final_learning_rate + (cosine.highest - options.final_learning_rate) * half

    def pixels(self, step: int) -> int:
        """Low-resolution pixels that have been used after `step` steps, over all processes."""
        crops = sum(
            stage.settings.batch_size * max(0, min(step, stage.end) - stage.first) for stage in self.stages
        )
        return crops * self.pixels_per_crop


def _stages(options: Training) -> tuple[SchedulePart, ...]:
    settings = StepSettings(options.loss, options.batch_size, options.ema_decay)
    starts, values = [0], [settings]
    for stage in options.stages:
        settings = StepSettings(
            stage.loss or settings.loss,
            stage.batch_size or settings.batch_size,
            settings.ema_decay if stage.ema_decay is None else stage.ema_decay,
        )
        starts.append(round(stage.start_fraction * options.steps))
        values.append(settings)
    bounds = pairwise([*starts, options.steps])
    return tuple(SchedulePart(first, end, value) for (first, end), value in zip(bounds, values, strict=True))


def _cosines(options: Training) -> tuple[Cosine, ...]:
    """The first cosine begins after the warm-up; every stage with its own learning rate begins one."""
    restarts = [
        (round(stage.start_fraction * options.steps), stage.learning_rate)
        for stage in options.stages
        if stage.learning_rate is not None
    ]
    begins = [(options.warmup_steps, options.learning_rate), *restarts]
    ends = [first for first, _ in begins[1:]] + [options.steps]
    return tuple(Cosine(first, end, highest) for (first, highest), end in zip(begins, ends, strict=True))
