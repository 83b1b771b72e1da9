"""Compare models on degraded pictures in RGB: python scripts/measure_colours.py MODEL MODEL FOLDER

Prints, for every degradation of `onebranch evaluate --degraded`, the mean PSNR of RGB and of Y of the results
of both models, and what the second one gains. A model of luma enlarges chroma by interpolation, so it leaves
coloured noise and JPEG's errors of colour as they are; a model of RGB can reduce them.
"""

import sys
from statistics import fmean

import numpy as np

from onebranch.degraded_evaluation import RESAMPLERS, TREATMENTS
from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.options import Options
from onebranch.images.degradation import reduce
from onebranch.images.folders import find_pictures
from onebranch.images.picture import Picture
from onebranch.images.reading import read
from onebranch.images.samples import as_depth
from onebranch.metrics import score
from onebranch.model.catalogue import load


def main() -> None:
    """Print a line for every degradation, and the mean of all."""
    if len(sys.argv) != 4:
        sys.exit("usage: python scripts/measure_colours.py MODEL MODEL FOLDER")
    *names, folder = sys.argv[1:]
    scale = load(names[0]).spec.scale
    enhancers = [Enhancer(Options(model=name)) for name in names]
    pictures = [np.asarray(as_depth(read(path).pixels, "uint8")) for path in find_pictures(folder)]
    gains = []
    for treatment in TREATMENTS:
        scores = [
            picture_scores(picture, treatment, index, scale, enhancers)
            for index, picture in enumerate(pictures)
        ]
        rgb, y = (np.mean([one[kind] for one in scores], axis=0) for kind in (0, 1))
        gains.append(rgb[1] - rgb[0])
        print(
            f"{treatment:9} RGB {rgb[0]:.2f} and {rgb[1]:.2f} dB ({gains[-1]:+.2f}),"
            f" Y {y[0]:.2f} and {y[1]:.2f} dB ({y[1] - y[0]:+.2f})",
            flush=True,
        )
    print(f"mean gain of {names[1]} over {names[0]} in RGB: {fmean(gains):+.2f} dB")


def picture_scores(
    picture: np.ndarray, treatment: str, index: int, scale: int, enhancers: list[Enhancer]
) -> np.ndarray:
    """(2, models): the PSNR of RGB and of Y, means over the resamplers. index: seeds the noise."""
    height, width = (side // scale * scale for side in picture.shape[:2])
    reference = picture[:height, :width]
    values = []
    for resampler in RESAMPLERS:
        small = reduce(reference, scale, resampler)
        degraded = TREATMENTS[treatment](small, np.random.default_rng(index))
        results = [as_depth(enhancer.enhance(Picture(degraded)).pixels, "uint8") for enhancer in enhancers]
        scores = [score(np.asarray(result, np.uint8), reference, scale) for result in results]
        values.append([[one.psnr_rgb for one in scores], [one.psnr_y for one in scores]])
    means: np.ndarray = np.mean(values, axis=0)
    return means


if __name__ == "__main__":
    main()
