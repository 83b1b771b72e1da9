"""The slow definition of a whole network in numpy, the reference for every runtime.

It computes in the precision of the pictures, and shares no code with the lowering or the torch modules.
"""

import math
from collections.abc import Iterator, Mapping

import numpy as np

from onebranch.algebra.definition import Floats, correlate, run_branch, zero_pad
from onebranch.images.resize import resize
from onebranch.spec.network import LEAKY_SLOPE, Activation, BlockSpec, NetworkSpec

_erf = np.vectorize(math.erf, otypes=[np.float64])


def run_network(spec: NetworkSpec, weights: Mapping[str, Floats], pictures: Floats) -> Floats:
    """Enhanced pictures, unclipped, computed in the precision of `pictures` (float64 or float32).

    pictures: (N, C, H, W) in [0, 1]. Result for upscale: (N, C, s H, s W); downscale: (N, C, ceil(H / s),
    ceil(W / s)); denoise: (N, C, H, W). weights: of any float type, by the tensors' names.
    """
    pictures = filled(pictures, spec.scale) if spec.task == "downscale" else pictures
    *_, (_, features) = run_layers(spec, weights, pictures)
    return finished(spec, weights, pictures, features)


def finished(spec: NetworkSpec, weights: Mapping[str, Floats], pictures: Floats, features: Floats) -> Floats:
    """The network's output, computed from the tail's output by the resampling layer and the picture residual.

    pictures: the head's input, padded by `filled` for downscale. features: the tail's output (N, O, H, W).
    """
    if spec.task == "upscale":
        features = pixel_shuffle(features, spec.scale)
    elif spec.task == "downscale":
        features = _downsampled(spec, weights, features)
    return features if spec.residual == "none" else features + _resized(spec, pictures)


def run_layers(
    spec: NetworkSpec, weights: Mapping[str, Floats], pictures: Floats
) -> Iterator[tuple[Floats, Floats]]:
    """Yields each layer's output (N, O, H, W) and the next layer's input, from the head to the tail.

    The two differ where skips end: sources of addition skips are added to the output, then sources of
    concatenation skips are appended to its channels.
    """
    outputs: list[Floats] = []
    value = pictures
    for index, (name, block, _) in enumerate(spec.walk()):
        output = run_block(block, within(weights, name), value)
        outputs.append(output)
        skips = [skip for skip in spec.skips if skip.target == index]
        value = sum((outputs[skip.source] for skip in skips if skip.join == "add"), output)
        widening = [outputs[skip.source] for skip in skips if skip.join == "concatenate"]
        value = np.concatenate([value, *widening], 1)
        yield output, value


def within(tensors: Mapping[str, Floats], prefix: str) -> dict[str, Floats]:
    """The tensors whose names begin with `prefix.`, by their names without that prefix."""
    return {n[len(prefix) + 1 :]: tensor for n, tensor in tensors.items() if n.startswith(f"{prefix}.")}


def run_block(block: BlockSpec, tensors: Mapping[str, Floats], pictures: Floats) -> Floats:
    """The sum of a block's branches, then its activation; tensors by names such as branches.0.0.weight."""
    branches = enumerate(block.parsed)
    outputs = (run_branch(b, within(tensors, f"branches.{n}"), pictures, block.width) for n, b in branches)
    return activate(block.activation, sum(outputs, np.zeros((), pictures.dtype)), tensors)


def activate(name: Activation, values: Floats, tensors: Mapping[str, Floats]) -> Floats:
    """The activation function of `values`; PReLU takes its slopes from tensors["activation.weight"]."""
    if name == "prelu":
        slopes = tensors["activation.weight"].astype(values.dtype)[:, None, None]
        return np.where(values < 0, slopes * values, values)
    if name == "leaky_relu":
        return np.where(values < 0, values.dtype.type(LEAKY_SLOPE) * values, values)
    if name == "silu":
        gate = (1 + np.tanh(values / 2)) / 2  # the logistic function, without overflow
        return np.asarray(values * gate)
    if name == "gelu":
        gate = (1 + _erf(values / math.sqrt(2)).astype(values.dtype)) / 2
        return np.asarray(values * gate)
    return np.maximum(values, 0) if name == "relu" else values


# Example: 5 rows and factor 2: -5 % 2 = 1 row is appended, a copy of the last one.
def filled(pictures: Floats, factor: int) -> Floats:
    """Pictures edge-replicated on the right and bottom to a multiple of `factor`."""
    rows, columns = -pictures.shape[2] % factor, -pictures.shape[3] % factor
    return np.pad(pictures, ((0, 0), (0, 0), (0, rows), (0, columns)), mode="edge")


# Example, factor 2: the channels 1, 2, 3, 4 of one pixel become the square ((1, 2), (3, 4)).
def pixel_shuffle(features: Floats, factor: int) -> Floats:
    """(N, C s s, H, W) -> (N, C, s H, s W), in PyTorch's channel order."""
    n, channels, height, width = features.shape
    split = features.reshape(n, channels // factor**2, factor, factor, height, width)
    return split.transpose(0, 1, 4, 2, 5, 3).reshape(n, -1, height * factor, width * factor)


def pixel_unshuffle(features: Floats, factor: int) -> Floats:
    """(N, C, s H, s W) -> (N, C s s, H, W), the inverse of `pixel_shuffle`."""
    n, channels, height, width = features.shape
    split = features.reshape(n, channels, height // factor, factor, width // factor, factor)
    return split.transpose(0, 1, 3, 5, 2, 4).reshape(n, -1, height // factor, width // factor)


def _downsampled(spec: NetworkSpec, weights: Mapping[str, Floats], features: Floats) -> Floats:
    n, channels, height, width = features.shape
    factor = spec.scale
    if spec.downsampling == "average":
        squares = features.reshape(n, channels, height // factor, factor, width // factor, factor)
        return np.asarray(squares.mean((3, 5)))
    weight, bias = (weights[f"resample.{key}"].astype(features.dtype) for key in ("weight", "bias"))
    unshuffles = spec.downsampling == "unshuffle"
    framed = zero_pad(pixel_unshuffle(features, factor) if unshuffles else features, (1, 1))
    stride = 1 if unshuffles else factor
    reduced = correlate(framed, weight, 1, 1)[:, :, ::stride, ::stride]
    return np.asarray(reduced + bias[:, None, None])


def _resized(spec: NetworkSpec, pictures: Floats) -> Floats:
    """The network's input at the size of its output.

    Downscaling by "nearest" takes the pixel in row and column s // 2 of every cell of s x s pixels.
    """
    factor = spec.scale
    if spec.task == "denoise":
        return pictures
    if spec.residual == "nearest":
        if spec.task == "upscale":
            return pictures.repeat(factor, 2).repeat(factor, 3)
        return pictures[:, :, factor // 2 :: factor, factor // 2 :: factor]
    height, width = pictures.shape[2:]
    enlarges = spec.task == "upscale"
    size = (height * factor, width * factor) if enlarges else (height // factor, width // factor)
    planes = pictures.reshape(-1, height, width)
    resized = [resize(plane, *size, border="edge") for plane in planes]
    return np.stack(resized).reshape(*pictures.shape[:2], *size)
