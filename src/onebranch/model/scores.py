"""Which of the scores in a model file is its PSNR."""

from collections.abc import Mapping
from typing import Any

from onebranch.spec.network import Task


def psnr_key(task: Task, score: Mapping[str, Any]) -> str:
    """The key of a score's PSNR: that of RGB for noise that was removed in RGB, else that of luma.

    So the field gives them. Scores on degraded pictures have PSNR of luma only.

    >>> psnr_key("denoise", {"psnr_y": 33.1, "psnr_rgb": 31.4}), psnr_key("denoise", {"psnr_y": 30.2})
    ('psnr_rgb', 'psnr_y')
    >>> psnr_key("upscale", {"psnr_y": 36.4, "psnr_rgb": 34.0})
    'psnr_y'
    """
    return "psnr_rgb" if task == "denoise" and "psnr_rgb" in score else "psnr_y"
