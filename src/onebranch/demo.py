"""The demo: merge photo-x2 with its proof, double a photograph, and compare the result with bicubic."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onebranch import metrics
from onebranch.comparison.overview import most_detailed_part
from onebranch.comparison.sheet import Panel, side_by_side
from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.options import Options
from onebranch.images.picture import Picture
from onebranch.images.reading import read
from onebranch.images.resize import imresize, resize
from onebranch.images.samples import as_depth
from onebranch.images.writing import write
from onebranch.merging.own import merge_model
from onebranch.model import catalogue
from onebranch.model.file import fingerprint

DEMO_PHOTOGRAPH = Path(__file__).parent / "data" / "photograph.png"


@dataclass(frozen=True)
class DemoResult:
    """PSNR on luma in dB, elapsed seconds, and the files that were written."""

    bicubic_psnr: float
    bicubic_seconds: float
    network_psnr: float
    network_seconds: float
    merged_equals_shipped: bool
    result: Path
    comparison: Path


def no_progress(step: str, share: float) -> None:
    """Report nothing."""


def run(out: Path, progress: Callable[[str, float], None] = no_progress) -> DemoResult:
    """Run the demo; it writes `doubled.png` and `comparison.png` into the folder `out`, which is created.

    The photograph is halved first, so that the doubled picture can be compared with the original. progress:
    called with each step and the approximate completed share of the time, 0 to 1.
    """
    progress("merging and proving", 0.0)
    merged, _ = merge_model("photo-x2-branches")
    progress("doubling", 0.8)
    shipped = catalogue.load("photo-x2")
    original = read(DEMO_PHOTOGRAPH)
    small = Picture(as_depth(imresize(original.pixels.astype(np.float32) / 255, 0.5), "uint8"))
    bicubic, bicubic_seconds = _timed(lambda: _bicubic(small))
    enhancer = Enhancer(Options(model=merged))
    enhancer.enhance(small)  # warm-up: the first run also sets up the runtime
    doubled, network_seconds = _timed(lambda: enhancer.enhance(small))
    progress("comparing", 0.9)
    shown = [np.asarray(p.pixels, np.uint8) for p in (bicubic, doubled, original)]
    scores = [metrics.score(pixels, shown[-1], 2).psnr_y for pixels in shown[:2]]
    out.mkdir(parents=True, exist_ok=True)
    result, comparison = out / "doubled.png", out / "comparison.png"
    write(doubled, result, overwrite=True)
    headings = "bicubic", "onebranch photo-x2", "original"
    notes = f"{scores[0]:.2f} dB", f"{scores[1]:.2f} dB", "reference; the input is half its size"
    panels = [Panel(h, n, p) for h, n, p in zip(headings, notes, shown, strict=True)]
    write(Picture(side_by_side(panels, most_detailed_part(shown[-1], 96))), comparison, overwrite=True)
    is_equal = fingerprint(merged) == fingerprint(shipped)
    return DemoResult(scores[0], bicubic_seconds, scores[1], network_seconds, is_equal, result, comparison)


def _bicubic(small: Picture) -> Picture:
    values = small.pixels.astype(np.float32) / 255
    return Picture(as_depth(resize(values, 2 * small.height, 2 * small.width), "uint8"))


def _timed(work: Callable[[], Picture]) -> tuple[Picture, float]:
    start = time.perf_counter()
    picture = work()
    return picture, time.perf_counter() - start
