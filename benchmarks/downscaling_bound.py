"""An upper bound for downscaling that is optimized for one upscaler, found by gradient descent per picture.

    python -m benchmarks.downscaling_bound FOLDER [--model photo-x2] [--steps 60]

The downscaled luma of every picture starts as the bicubic one and is improved by gradient descent on the
error after upscaling, with the original known, which no network can do. Prints PSNR on luma in dB, `scale`
border pixels cropped: bicubic, the optimum (rounded to 8 bits), and the optimum against the bicubic one.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from onebranch.images.folders import find_pictures
from onebranch.model.catalogue import load as load_model
from onebranch.nn.network import Network, load
from onebranch.training.crops import channels_first
from onebranch.training.picture_cache import reduced, rgb_bytes

LEARNING_RATE = 1e-2


def main() -> None:
    """Parse the arguments and print a row per picture and the mean."""
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
    """PSNR in dB of the bicubic and the optimal picture after upscaling, and between the two."""
    scale = network.spec.scale
    height, width = (side // scale * scale for side in picture.shape[:2])
    picture = picture[:height, :width]
    original = torch.from_numpy(channels_first(picture, "y"))[None]
    bicubic = torch.from_numpy(channels_first(reduced(picture, scale), "y"))[None]
    small = bicubic.clone().requires_grad_()
    optimizer = torch.optim.Adam([small], lr=LEARNING_RATE)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / steps)
        optimizer.zero_grad()
        (network(small) - original).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        optimum = (small.clamp(0, 1) * 255).round() / 255
        scores = [psnr(network(half), original, scale) for half in (bicubic, optimum)]
        return scores[0], scores[1], psnr(optimum, bicubic, 0)


def psnr(picture: Tensor, reference: Tensor, border: int) -> float:
    """PSNR in dB with `border` pixels cropped on every side."""
    error = (picture.clamp(0, 1) - reference).square()
    inner = error[..., border : error.shape[2] - border, border : error.shape[3] - border]
    return float(-10 * torch.log10(inner.mean()))


if __name__ == "__main__":
    main()
