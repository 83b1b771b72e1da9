"""A branch's steps and tensors become one convolution, by the laws (the first and second transformation)."""

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
from onebranch.spec.branch import EDGES, AveragePool, BatchNorm, Branch, Convolution, Edge, Step
from onebranch.spec.network import BATCH_NORM_EPSILON


def collapse(branch: Branch, tensors: Mapping[str, Array], like: Array, inputs: int, width: int) -> Conv:
    """The one convolution that equals the branch, for a block from `inputs` to `width` channels.

    tensors: the branch's own, by names such as "0.weight"; `like`: an array of their library and type, for
    branches that own none. The picture is to be padded by the branch's radius, once.
    """
    result: Conv | None = None
    channels = inputs
    for index, (step, outputs) in enumerate(zip(branch.steps, branch.channels(inputs, width), strict=True)):
        own = {name[len(f"{index}.") :]: t for name, t in tensors.items() if name.startswith(f"{index}.")}
        if isinstance(step, BatchNorm):
            result = _normalized(result or identity(like, channels), own)
        else:
            conv = _step(step, own, like, channels)
            result = conv if result is None else compose(conv, result)
        channels = outputs
    assert result is not None, "a parsed branch has at least one step"
    return result


def total(convs: list[Conv]) -> Conv:
    """The sum of one or more convolutions of the same input."""
    return reduce(Conv.__add__, convs)


def _normalized(conv: Conv, own: Mapping[str, Array]) -> Conv:
    statistics = own["running_mean"], own["running_var"]
    return normalize(conv, own["weight"], own["bias"], *statistics, BATCH_NORM_EPSILON)


def _step(step: Step, own: Mapping[str, Array], like: Array, channels: int) -> Conv:
    if isinstance(step, Convolution):
        weight = own["weight"]
        bias = own["bias"] if step.bias else namespace(weight).zeros_like(weight[:, 0, 0, 0])
        return dilate(Conv(weight, bias, step.groups or channels), step.dilation)
    if isinstance(step, AveragePool):
        return average(like, channels, step.kernel)
    if isinstance(step, Edge):
        return _edge(step, own)
    return identity(like, channels)


def _edge(step: Edge, own: Mapping[str, Array]) -> Conv:
    xp, factor = namespace(own["scale"]), own["scale"]
    taps = xp.asarray(EDGES[step.name], dtype=factor.dtype, device=factor.device)
    channels = factor.shape[0]
    ones = xp.zeros_like(factor).reshape(channels, 1, 1, 1) + taps.reshape(1, 1, 3, 3)
    fixed = Conv(ones, xp.zeros_like(factor), groups=channels)
    scaled = scale(fixed, factor)
    return Conv(scaled.weight, scaled.bias + own["bias"], groups=channels)
