"""The optimizers of a run: Adam, SGD, or Muon for the kernels inside the network with Adam for the rest."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from onebranch.nn.network import Network
from onebranch.training.config import Training

ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-8

MUON_MOMENTUM = 0.95

MUON_UPDATE_RMS = 0.2
"""Root mean square of Muon's update at learning rate 1: that of a typical Adam update (Liu et al., 2025)."""

NEWTON_SCHULZ_STEPS = 5
NEWTON_SCHULZ_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of x, x^3 and x^5 that move all singular values to about 1 in five steps (Jordan, 2024)."""


def optimizer_of(network: Network, options: Training, device: torch.device) -> torch.optim.Optimizer:
    """The config's optimizer; on a GPU its learning rates are tensors, so that a step can be captured."""
    on_gpu = device.type == "cuda"
    rate: Any = torch.tensor(options.learning_rate, device=device) if on_gpu else options.learning_rate
    if options.optimizer == "sgd":
        return torch.optim.SGD(network.parameters(), lr=options.learning_rate, foreach=True)
    if options.optimizer == "muon":
        return Muon(*_kernels_and_rest(network), rate)
    how = {"fused": True, "capturable": True} if on_gpu else {"foreach": True}
    return torch.optim.Adam(network.parameters(), lr=rate, betas=ADAM_BETAS, eps=ADAM_EPSILON, **how)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group, in place where it is a tensor."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def _kernels_and_rest(network: Network) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The kernels of the blocks, and everything else: head, tail, biases, slopes and scales.

    Depthwise kernels (one input channel) are among the rest: as matrices they have nothing to orthogonalize.
    """
    kernels: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        is_kernel = ".blocks." in f".{name}" and parameter.ndim == 4 and min(parameter.shape[:2]) > 1
        (kernels if is_kernel else rest).append(parameter)
    return kernels, rest


class Muon(torch.optim.Optimizer):
    """Muon for kernels, Adam for other parameters (Jordan et al., 2024; update size of Liu et al., 2025).

    A kernel (O, I, K, L) is taken as a matrix (O, I K L). Its update is the matrix with the singular vectors
    of the momentum and all singular values near 1, times 0.2 sqrt(max(rows, columns)). That is the size of
    an Adam update, so that both kinds of parameters take the same learning rate.
    """

    def __init__(
        self, kernels: Iterable[nn.Parameter], rest: Iterable[nn.Parameter], lr: float | Tensor
    ) -> None:
        groups = [{"params": list(kernels), "kind": "kernel"}, {"params": list(rest), "kind": "other"}]
        defaults = {"lr": lr, "capturable": isinstance(lr, Tensor)}
        super().__init__([group for group in groups if group["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient; `closure` must be None."""
        assert closure is None
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters and group["kind"] == "kernel":
                self._update_kernels(parameters, group["lr"])
            elif parameters:
                self._update_others(parameters, group["lr"])

    def _update_kernels(self, kernels: list[nn.Parameter], rate: float | Tensor) -> None:
        """Kernels of equal shape are orthogonalized together."""
        by_shape: dict[torch.Size, list[nn.Parameter]] = {}
        for kernel in kernels:
            by_shape.setdefault(kernel.shape, []).append(kernel)
        for shape, members in by_shape.items():
            momenta = [self._state_of(kernel, "momentum")["momentum"] for kernel in members]
            gradients = [_gradient(kernel) for kernel in members]
            torch._foreach_lerp_(momenta, gradients, 1 - MUON_MOMENTUM)
            ahead = torch._foreach_lerp(gradients, momenta, MUON_MOMENTUM)  # Nesterov's momentum
            matrices = torch.stack([value.flatten(1) for value in ahead])
            updates = orthogonalized(matrices) * (MUON_UPDATE_RMS * max(matrices.shape[1:]) ** 0.5)
            for kernel, update in zip(members, updates * rate, strict=True):
                kernel.sub_(update.view(shape))

    def _update_others(self, parameters: list[nn.Parameter], rate: float | Tensor) -> None:
        """Adam, with the number of steps in a tensor, so that a GPU can replay the step."""
        states = [self._state_of(parameter, "exp_avg", "exp_avg_sq") for parameter in parameters]
        means = [state["exp_avg"] for state in states]
        squares = [state["exp_avg_sq"] for state in states]
        gradients = [_gradient(parameter) for parameter in parameters]
        torch._foreach_add_([state["step"] for state in states], 1)
        torch._foreach_lerp_(means, gradients, 1 - ADAM_BETAS[0])
        torch._foreach_mul_(squares, ADAM_BETAS[1])
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - ADAM_BETAS[1])
        step = states[0]["step"]
        corrected = torch._foreach_sqrt(squares)
        torch._foreach_div_(corrected, torch.sqrt(1 - ADAM_BETAS[1] ** step))
        torch._foreach_add_(corrected, ADAM_EPSILON)
        updates = torch._foreach_div(means, corrected)
        torch._foreach_mul_(updates, rate / (1 - ADAM_BETAS[0] ** step))
        torch._foreach_sub_(list[Tensor](parameters), updates)

    def _state_of(self, parameter: nn.Parameter, *names: str) -> dict[str, Tensor]:
        """The state of a parameter, made of zeros where there is none yet; "step" counts the updates."""
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            state.update({name: torch.zeros_like(parameter) for name in names})
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
        return state


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def orthogonalized(matrices: Tensor) -> Tensor:
    """Matrices (N, R, C) with the same singular vectors and singular values between about 0.7 and 1.2.

    Newton-Schulz iteration: X <- a X + b (X X^T) X + c (X X^T)^2 X, from X divided by its Frobenius norm.
    """
    a, b, c = NEWTON_SCHULZ_COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    values = matrices.mT if tall else matrices
    values = values / (values.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        squared = values @ values.mT
        values = a * values + (b * squared + c * squared @ squared) @ values
    result: Tensor = values.mT if tall else values
    return result
