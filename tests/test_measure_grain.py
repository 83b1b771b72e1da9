"""The measure of grain: 1 for what keeps it, near 0 for what removes it."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from onebranch.images.degradation import blur, resize
from onebranch.images.picture import Picture

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "measure_grain.py"


@pytest.mark.parametrize(("blur_sigma", "lowest", "highest"), [(0.0, 1.0, 1.0), (3.0, 0.0, 0.1)])
def test_kept_share(blur_sigma: float, lowest: float, highest: float) -> None:
    specification = importlib.util.spec_from_file_location("measure_grain", SCRIPT)
    assert specification is not None and specification.loader is not None
    measure_grain = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(measure_grain)

    def enlarge(picture: Picture) -> Picture:
        height, width = (2 * side for side in picture.pixels.shape[:2])
        larger = resize(picture.pixels, height, width, "lanczos")
        return Picture(blur(larger, blur_sigma) if blur_sigma else larger)

    ramp = np.linspace(40, 200, 96 * 80).reshape(96, 80)
    picture = np.repeat(ramp[..., None], 3, 2).astype(np.uint8)
    share = measure_grain.kept_share(picture, 4.0, 2, SimpleNamespace(enhance=enlarge))
    assert lowest <= share <= highest
