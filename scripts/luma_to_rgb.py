"""Make an RGB model that starts where a luma model ended: python scripts/luma_to_rgb.py MODEL OUT

The merged model MODEL enlarges luma. Its head is applied to the luma of the RGB input, and what its tail adds
to luma is added to each of red, green and blue. Before clipping, the result has the luma of MODEL's result
(except at the border, where RGB is padded with black) and the chroma of a nearest-neighbour enlargement. It
is meant as `init_from` of a training run, which learns what the colours need.
"""

import sys
from dataclasses import replace

import msgspec
import numpy as np

from onebranch import save
from onebranch.images.colour import luma
from onebranch.model.catalogue import load
from onebranch.model.file import Model

LUMA_SPAN = 219 / 255
"""Luma of white minus that of black."""


def main() -> None:
    """Convert and write."""
    name, out = sys.argv[1:]
    save(in_rgb(load(name)), out, overwrite=True)


def in_rgb(model: Model) -> Model:
    """The RGB model of a merged upscaling model of luma with a picture residual."""
    spec = model.spec
    assert spec.colour == "y" and spec.task == "upscale" and spec.residual == "nearest"
    black, *primaries = luma(np.concatenate([np.zeros((1, 3)), np.eye(3)]))
    shares = np.array(primaries) - black
    weights = dict(model.weights)
    head = weights["head.branches.0.0.weight"]
    weights["head.branches.0.0.weight"] = head * shares[None, :, None, None]
    weights["head.branches.0.0.bias"] = weights["head.branches.0.0.bias"] + black * head.sum((1, 2, 3))
    for key in ("tail.branches.0.0.weight", "tail.branches.0.0.bias"):
        weights[key] = np.concatenate([weights[key] / LUMA_SPAN] * 3)
    tail = msgspec.structs.replace(spec.tail, width=3 * spec.tail.width)
    weights = {key: np.asarray(value, np.float32) for key, value in weights.items()}
    spec = msgspec.structs.replace(spec, colour="rgb", tail=tail)
    return replace(model, spec=spec, weights=weights, merge=None, scores={}, quantization=None)


if __name__ == "__main__":
    main()
