"""Models in the layout of Real-ESRGAN's Compact networks, which spandrel, chaiNNer and ComfyUI load."""

import importlib.util
from collections.abc import Mapping

import numpy as np

from onebranch import strict_json
from onebranch.algebra.conv import Conv, pad
from onebranch.algebra.definition import correlate, zero_pad
from onebranch.algebra.network import pixel_shuffle, run_network
from onebranch.errors import OnebranchError, counted_noun
from onebranch.exporting.comparison import Comparison, Exported, float_comparison, random_picture
from onebranch.model.file import Model
from onebranch.progress import StepProgress, no_progress
from onebranch.spec.branch import Convolution
from onebranch.spec.network import LEAKY_SLOPE, BlockSpec, NetworkSpec

CONSTANT_SLOPES = {"leaky_relu": LEAKY_SLOPE, "relu": 0.0, "none": 1.0}
"""The slope of each activation that equals a PReLU with a constant slope."""


def export_compact(model: Model, progress: StepProgress = no_progress) -> Exported:
    """The model as a Compact file, and its comparisons.

    The file is read back and run by the layout's definition in float64, and in spandrel if that and PyTorch
    are installed. progress: called with the share of the runs. Raises OnebranchError with the reason for a
    network that the layout cannot hold, and for a difference.
    """
    from safetensors.numpy import load

    data = compact_bytes(model)
    picture = random_picture(model.spec.channels)
    expected = run_network(model.spec, model.weights, picture.astype(np.float64))
    progress("running the layout's definition", 1 / 3)
    comparisons = [float_comparison("the layout's definition", run_compact(load(data), picture), expected)]
    progress("running spandrel", 2 / 3)
    comparisons += _comparison_in_spandrel(data, picture, expected)
    return Exported(data, tuple(comparison.checked("Compact") for comparison in comparisons))


def run_compact(tensors: Mapping[str, np.ndarray], pictures: np.ndarray) -> np.ndarray:
    """The definition of the layout, in float64: (N, C, H, W) -> (N, C, S H, S W).

    Alternating convolutions and PReLUs, a pixel shuffle, and the addition of the picture enlarged by
    repetition (nearest neighbour).
    """
    start = values = pictures.astype(np.float64)
    last = max(int(name.split(".")[1]) for name in tensors)
    for index in range(last + 1):
        weight = tensors[f"body.{index}.weight"].astype(np.float64)
        if weight.ndim == 4:
            bias = tensors[f"body.{index}.bias"].astype(np.float64)
            values = correlate(zero_pad(values, (1, 1)), weight, 1, 1) + bias[:, None, None]
        else:
            values = np.where(values < 0, values * weight[:, None, None], values)
    scale = round((values.shape[1] / start.shape[1]) ** 0.5)
    return pixel_shuffle(values, scale) + start.repeat(scale, 2).repeat(scale, 3)


def _comparison_in_spandrel(data: bytes, picture: np.ndarray, expected: np.ndarray) -> list[Comparison]:
    """The comparison in spandrel; empty if it cannot be imported."""
    if not all(importlib.util.find_spec(name) for name in ("torch", "spandrel", "torchvision")):
        return []
    import torch
    from safetensors.torch import load

    from onebranch.pytorch_files.reading import imported_spandrel

    try:
        spandrel = imported_spandrel()
    except OnebranchError:
        return []

    descriptor = spandrel.ModelLoader(device="cpu").load_from_state_dict(load(data))
    with torch.inference_mode():
        actual = descriptor.model(torch.from_numpy(picture)).numpy()
    return [float_comparison(f"spandrel, as {descriptor.architecture.name},", actual, expected)]


def compact_bytes(model: Model) -> bytes:
    """The model as a safetensors file in the layout of Real-ESRGAN's Compact (SRVGGNetCompact).

    The keys body.0, body.1, ... are alternately a 3x3 convolution and the slopes of a PReLU. spandrel, and
    therefore chaiNNer and ComfyUI, load it directly. Raises OnebranchError with the reason for a network that
    the layout cannot hold.
    """
    from safetensors.numpy import save

    check_compact(model.spec)
    tensors: dict[str, np.ndarray] = {}
    for index, (name, block, _) in enumerate(model.spec.walk()):
        conv = pad(_convolution(model, name, block), (3, 3))
        tensors[f"body.{2 * index}.weight"], tensors[f"body.{2 * index}.bias"] = conv.weight, conv.bias
        if name != "tail":
            tensors[f"body.{2 * index + 1}.weight"] = _slopes(model, name, block)
    facts = {"scale": model.spec.scale, "colour": model.spec.colour, "name": model.name}
    return bytes(
        save(
            {k: np.ascontiguousarray(v) for k, v in tensors.items()},
            {"onebranch_compact": strict_json.dumps(facts)},
        )
    )


def _convolution(model: Model, name: str, block: BlockSpec) -> Conv:
    weight = model.weights[f"{name}.branches.0.0.weight"]
    bias = model.weights.get(f"{name}.branches.0.0.bias", np.zeros(block.width, np.float32))
    return Conv(weight, bias)


def _slopes(model: Model, name: str, block: BlockSpec) -> np.ndarray:
    if block.activation == "prelu":
        return model.weights[f"{name}.activation.weight"]
    return np.full(block.width, CONSTANT_SLOPES[block.activation], np.float32)


def check_compact(spec: NetworkSpec) -> None:
    """Raise OnebranchError with the first reason if the Compact layout cannot hold the network."""
    for reason in (_reason_of_network(spec), *(_reason_of_block(n, b, spec) for n, b, _ in spec.walk())):
        if reason:
            raise OnebranchError(f"the Compact layout cannot hold this network: {reason}")


def _reason_of_network(spec: NetworkSpec) -> str:
    if spec.task == "downscale":
        return "it reduces pictures; Compact enlarges them or keeps their size"
    if spec.skips:
        return f"it has {counted_noun(len(spec.skips), 'feature skip')}"
    if spec.residual != "nearest" and not (spec.task == "denoise" and spec.residual == "bicubic"):
        return f"its picture residual is '{spec.residual}' where Compact adds the nearest-neighbour picture"
    return ""


def _reason_of_block(name: str, block: BlockSpec, spec: NetworkSpec) -> str:
    steps = block.parsed[0].steps
    if len(block.branches) > 1 or len(steps) > 1:
        return f"{name} is not one convolution; merge the network first"
    step = steps[0]
    if not isinstance(step, Convolution) or max(step.kernel) > 3 or step.dilation > 1 or step.groups != 1:
        return f"{name} is '{block.branches[0]}' where Compact has a dense 3x3 convolution"
    if name != "tail" and block.width != spec.head.width:
        return f"{name} is {block.width} channels wide where the head is {spec.head.width}"
    if name != "tail" and block.activation not in ("prelu", *CONSTANT_SLOPES):
        return f"{name} has the activation '{block.activation}', which is not a PReLU"
    return ""
