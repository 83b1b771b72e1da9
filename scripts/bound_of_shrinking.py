"""How much a reduction made for one upscaler can gain at all: each picture's own best reduction, by search.

    python scripts/bound_of_shrinking.py FOLDER [--model photo-x2] [--steps 60]

The reduced luma of every picture starts as the bicubic reduction and is improved by gradient descent on the
error after enlarging, with the original at hand: more than a network that sees the picture once can do.
Prints PSNR on luma, `scale` pixels of border cropped: bicubic, best found (rounded to 8 bits), and the best
found's PSNR to the bicubic reduction.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from onebranch.images.folders import find_pictures
from onebranch.model.catalogue import load as load_model
from onebranch.nn.network import Network, load
from onebranch.training.crops import channels_first, reduced, rgb_bytes

RATE = 1e-2


def main() -> None:
    """Do it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="photo-x2")
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    network = load(model.spec, model.weights).requires_grad_(False)
    rows = []
    for path in find_pictures(arguments.folder):
        rows.append(bound(network, rgb_bytes(path), arguments.steps))
        print(f"{path.stem:<12}", *(f"{value:7.2f}" for value in rows[-1]), flush=True)
    print(f"{'mean':<12}", *(f"{value:7.2f}" for value in np.mean(rows, 0)))


def bound(network: Network, picture: np.ndarray, steps: int) -> tuple[float, float, float]:
    """PSNR of bicubic and of the best reduction found, enlarged again; PSNR between the two reductions."""
    scale = network.spec.scale
    height, width = (side // scale * scale for side in picture.shape[:2])
    picture = picture[:height, :width]
    original = torch.from_numpy(channels_first(picture, "y"))[None]
    bicubic = torch.from_numpy(channels_first(reduced(picture, scale), "y"))[None]
    small = bicubic.clone().requires_grad_()
    optimizer = torch.optim.Adam([small], lr=RATE)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / steps)
        optimizer.zero_grad()
        (network(small) - original).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        found = (small.clamp(0, 1) * 255).round() / 255
        scores = [psnr(network(half), original, scale) for half in (bicubic, found)]
        return scores[0], scores[1], psnr(found, bicubic, 0)


def psnr(picture: Tensor, reference: Tensor, border: int) -> float:
    """PSNR in dB, `border` pixels cropped."""
    error = (picture.clamp(0, 1) - reference).square()
    inner = error[..., border : error.shape[2] - border, border : error.shape[3] - border]
    return float(-10 * torch.log10(inner.mean()))


if __name__ == "__main__":
    main()
