"""The training objective: the loss against labels and, for downscaling, the loss after enlarging again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from onebranch.errors import OnebranchError
from onebranch.model import catalogue, file
from onebranch.nn.fake_quantization import with_gradient_of
from onebranch.nn.network import Network, load
from onebranch.training.config import Config, Training
from onebranch.training.process import Process


@dataclass(frozen=True)
class Teacher:
    """A trained network whose results and attention are distilled into the network in training.

    The attention of features (N, C, H, W) is the mean of their squares over the channels, divided by its norm
    for each picture (Zagoruyko and Komodakis, Paying More Attention to Attention, 2017, section 3.1).
    """

    network: Network
    weight: float
    features_weight: float


@dataclass(frozen=True)
class Objective:
    """The loss of a batch; for downscale with a restorer, also the loss after enlarging again.

    restorer: a fixed upscaler. (A restorer that learns is part of the trained network.)
    """

    options: Training
    restorer: Network | None = None
    teacher: Teacher | None = None
    loss: str = "l1"

    def __call__(self, runner: Callable[[Tensor], Tensor], inputs: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of inputs (N, C, h, w) against labels (N, C, H, W)."""
        if self.teacher is not None:
            return self._distilled(self.teacher, runner, inputs, labels)
        outputs = runner(inputs)
        loss = self._difference(inputs, outputs, labels)
        restorer = self.restorer_of(runner)
        if restorer is None:
            return loss
        restored = enlarged_again(restorer, outputs, inputs.shape)
        again = difference(self.loss, restored, inputs)
        return self.options.picture_weight * loss + self.options.restorer_weight * again

    def _distilled(
        self, teacher: Teacher, runner: Callable[[Tensor], Tensor], inputs: Tensor, labels: Tensor
    ) -> Tensor:
        """The loss against the labels plus those against the teacher's results and attention."""
        with torch.no_grad(), tail_inputs(teacher.network) as wanted:
            targets = teacher.network(inputs)
        with tail_inputs(_network(runner)) as features:
            outputs = runner(inputs)
        loss = self._difference(inputs, outputs, labels)
        loss = loss + teacher.weight * self._difference(inputs, outputs, targets)
        if teacher.features_weight == 0:
            return loss
        gap = functional.mse_loss(attention(features[0]), attention(wanted[0]))
        return loss + teacher.features_weight * gap

    def _difference(self, inputs: Tensor, outputs: Tensor, labels: Tensor) -> Tensor:
        return difference(self.loss, *self._inner(inputs, outputs, labels))

    def _inner(self, inputs: Tensor, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs and labels without the border of `loss_border` input pixels."""
        border = self.options.loss_border * outputs.shape[-1] // inputs.shape[-1]
        if border == 0:
            return outputs, labels
        inner = slice(border, -border)
        return outputs[..., inner, inner], labels[..., inner, inner]

    def restorer_of(self, runner: Callable[[Tensor], Tensor]) -> Network | None:
        """The upscaler that enlarges the results of a downscaling network; None if there is none."""
        return _network(runner).restorer if self.options.restorer_learns else self.restorer


def enlarged_again(restorer: Network, small: Tensor, shape: torch.Size) -> Tensor:
    """The reduced pictures rounded to 8 bits (gradient passed through), enlarged to the size in `shape`."""
    clipped = small.clamp(0, 1)
    rounded = with_gradient_of(clipped, (clipped * 255).round() / 255)
    enlarged: Tensor = restorer(rounded)
    return enlarged[..., : shape[2], : shape[3]]


def difference(loss: str, outputs: Tensor, labels: Tensor) -> Tensor:
    """L1, Charbonnier (epsilon 1e-3) or mean squared error, averaged over everything."""
    if loss == "mse":
        return functional.mse_loss(outputs, labels)
    if loss == "charbonnier":
        return torch.sqrt((outputs - labels) ** 2 + 1e-6).mean()
    return functional.l1_loss(outputs, labels)


def attention(features: Tensor) -> Tensor:
    """(N, H, W): the mean square over the channels of features (N, C, H, W), times H W / its sum."""
    energy = features.float().square().mean(1)
    return energy / energy.mean((1, 2), keepdim=True).clamp_min(1e-12)


@contextmanager
def tail_inputs(network: Network) -> Iterator[list[Tensor]]:
    """A list to which every run of the network within the context adds the input of its tail."""
    seen: list[Tensor] = []
    hook = network.tail.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    try:
        yield seen
    finally:
        hook.remove()


def _network(runner: Callable[[Tensor], Tensor]) -> Network:
    """The network itself, also where it is wrapped: to run on several processes, or compiled."""
    inner = getattr(runner, "module", getattr(runner, "_orig_mod", runner))
    assert isinstance(inner, Network)
    return inner


def objective_of(config: Config, process: Process) -> Objective:
    """The config's objective with its other networks loaded. Raises OnebranchError if one does not fit."""
    training = config.training
    wanted = "upscale", config.spec.scale, config.spec.colour
    restorer = None
    if not training.restorer_learns:
        restorer = _frozen_network("restorer", training.restorer, wanted, process)
    wanted = config.spec.task, config.spec.scale, config.spec.colour
    teacher = _frozen_network("teacher", training.teacher, wanted, process)
    if teacher is None:
        return Objective(training, restorer, None, training.loss)
    lesson = Teacher(teacher, training.teacher_weight, training.teacher_features_weight)
    return Objective(training, restorer, lesson, training.loss)


def _frozen_network(
    key: str, name: str | None, wanted: tuple[str, int, str], process: Process
) -> Network | None:
    """The network of a model with the wanted task, scale and colour; None if no model is named."""
    if not name:
        return None
    return model_for(key, name, wanted).to(process.device, process.dtype).requires_grad_(False)


def model_for(key: str, name: str, wanted: tuple[str, int, str]) -> Network:
    """The network of a model. Raises OnebranchError if it has not the wanted task, scale and colour."""
    model = file.read(catalogue.find(name))
    actual = model.spec.task, model.spec.scale, model.spec.colour
    if actual != wanted:
        raise OnebranchError(
            f"config: 'training.{key}' must {_task_words(*wanted)}, not {_task_words(*actual)}"
        )
    return load(model.spec, model.weights)


def _task_words(task: str, scale: int, colour: str) -> str:
    return f"{task} x{scale} in '{colour}'"
