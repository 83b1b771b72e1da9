"""Composition of a branch's steps into one convolution, by the laws of `algebra.conv`."""

from collections.abc import Mapping
from functools import reduce

from onebranch.algebra.conv import (
    Array,
    Conv,
    average,
    compose,
    dilate,
    identity,
    namespace,
    normalize,
    scale,
)
from onebranch.spec.branch import EDGES, AveragePool, BatchNorm, Branch, BranchStep, Convolution, Edge
from onebranch.spec.network import BATCH_NORM_EPSILON


def collapse(branch: Branch, tensors: Mapping[str, Array], like: Array, inputs: int, width: int) -> Conv:
    """The one convolution that equals the branch, for a block from `inputs` to `width` channels.

    tensors: the branch's tensors, by names such as "0.weight". like: an array whose library and type are used
    for branches without tensors. The result equals the branch on a picture that is padded once, by the
    branch's radius.
    """
    result: Conv | None = None
    channels = inputs
    for index, (step, outputs) in enumerate(zip(branch.steps, branch.channels(inputs, width), strict=True)):
        prefix = f"{index}."
        of_step = {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}
        if isinstance(step, BatchNorm):
            result = _normalized(result or identity(like, channels), of_step)
        else:
            conv = _step(step, of_step, like, channels)
            result = conv if result is None else compose(conv, result)
        channels = outputs
    assert result is not None, "a parsed branch has at least one step"
    return result


def total(convs: list[Conv]) -> Conv:
    """The sum of one or more convolutions of the same input."""
    return reduce(Conv.__add__, convs)


def _normalized(conv: Conv, tensors: Mapping[str, Array]) -> Conv:
    statistics = tensors["running_mean"], tensors["running_var"]
    return normalize(conv, tensors["weight"], tensors["bias"], *statistics, BATCH_NORM_EPSILON)


def _step(step: BranchStep, tensors: Mapping[str, Array], like: Array, channels: int) -> Conv:
    if isinstance(step, Convolution):
        weight = tensors["weight"]
        bias = tensors["bias"] if step.bias else namespace(weight).zeros_like(weight[:, 0, 0, 0])
        return dilate(Conv(weight, bias, step.groups or channels), step.dilation)
    if isinstance(step, AveragePool):
        return average(like, channels, step.kernel)
    if isinstance(step, Edge):
        return _edge(step, tensors)
    return identity(like, channels)


def _edge(step: Edge, tensors: Mapping[str, Array]) -> Conv:
    xp, factor = namespace(tensors["scale"]), tensors["scale"]
    taps = xp.asarray(EDGES[step.name], dtype=factor.dtype, device=factor.device)
    channels = factor.shape[0]
    ones = xp.zeros_like(factor).reshape(channels, 1, 1, 1) + taps.reshape(1, 1, 3, 3)
    fixed = Conv(ones, xp.zeros_like(factor), groups=channels)
    scaled = scale(fixed, factor)
    return Conv(scaled.weight, scaled.bias + tensors["bias"], groups=channels)
