"""The training objective: the loss against labels and, for downscaling, the loss after enlarging again."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from onebranch.errors import OnebranchError
from onebranch.model import catalogue, file
from onebranch.nn.network import Network, load
from onebranch.training.config import Config, Training
from onebranch.training.process import Process


@dataclass(frozen=True)
class Objective:
    """The loss of a batch; for downscale with a restorer, also the loss after enlarging again."""

    options: Training
    restorer: Network | None

    def __call__(self, runner: Callable[[Tensor], Tensor], inputs: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of inputs (N, C, h, w) against labels (N, C, H, W)."""
        outputs = runner(inputs)
        loss = difference(self.options.loss, *self._inner(inputs, outputs, labels))
        if self.restorer is None:
            return loss
        restored = self.restored(outputs, inputs.shape)
        again = difference(self.options.loss, restored, inputs)
        return self.options.picture_weight * loss + self.options.restorer_weight * again

    def _inner(self, inputs: Tensor, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs and labels without the border of `loss_border` input pixels."""
        border = self.options.loss_border * outputs.shape[-1] // inputs.shape[-1]
        if border == 0:
            return outputs, labels
        inner = slice(border, -border)
        return outputs[..., inner, inner], labels[..., inner, inner]

    def restored(self, small: Tensor, shape: torch.Size) -> Tensor:
        """The reduced picture rounded to 8 bits (gradient passed through) and enlarged again."""
        assert self.restorer is not None
        clipped = small.clamp(0, 1)
        rounded = clipped + ((clipped * 255).round() / 255 - clipped).detach()
        enlarged: Tensor = self.restorer(rounded)
        return enlarged[..., : shape[2], : shape[3]]


def difference(loss: str, outputs: Tensor, labels: Tensor) -> Tensor:
    """L1, Charbonnier (epsilon 1e-3) or mean squared error, averaged over everything."""
    if loss == "mse":
        return functional.mse_loss(outputs, labels)
    if loss == "charbonnier":
        return torch.sqrt((outputs - labels) ** 2 + 1e-6).mean()
    return functional.l1_loss(outputs, labels)


def objective_of(config: Config, process: Process) -> Objective:
    """The config's objective with its restorer loaded. Raises OnebranchError if the restorer does not fit."""
    name = config.training.restorer
    if not name:
        return Objective(config.training, None)
    model = file.read(catalogue.find(name))
    wanted = "upscale", config.spec.scale, config.spec.colour
    if (model.spec.task, model.spec.scale, model.spec.colour) != wanted:
        raise OnebranchError(
            f"config: 'training.restorer' must upscale x{config.spec.scale} in '{config.spec.colour}',"
            f" not {model.spec.task} x{model.spec.scale} in '{model.spec.colour}'"
        )
    restorer = load(model.spec, model.weights).to(process.device, process.dtype).requires_grad_(False)
    return Objective(config.training, restorer)
