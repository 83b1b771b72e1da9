"""A clip of moving photographs before and after `onebranch enhance`, measured in every frame and drawn.

The clip shows photographs that are panned and zoomed; the same views at twice the size are the truth.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.moving_photographs import SHOT_FRAMES, make_moving_photographs, views
from onebranch import enhance_video
from onebranch.images.colour import luma
from onebranch.images.degradation import resize
from onebranch.metrics import psnr
from onebranch.video.options import VideoOptions

SIZE = (180, 320)
"""(height, width) of the clip: a photograph of 768x512 then has details at twice the size."""

COLUMNS = ("bicubic", "enhanced", "original")
GAP, HEADING = 8, 26


@dataclass(frozen=True)
class MeasuredFrame:
    """One frame: its time in seconds before and after, and PSNR of luma in dB over the original view."""

    before: float
    after: float
    bicubic: float
    enhanced: float

    @property
    def gain(self) -> float:
        """How many dB the enhanced frame is better than the bicubic one."""
        return self.enhanced - self.bicubic


@dataclass(frozen=True)
class ClipSheet:
    """All measured frames, how many were in the clip and in the result, and the drawn ones.

    rows: of each drawn frame its number, and its pixels (H, W, 3): bicubic, enhanced, original.
    """

    frames: list[MeasuredFrame]
    frames_in: int
    frames_out: int
    rows: list[tuple[int, tuple[np.ndarray, ...]]]


def measure_clip(pictures: Path, frames: int, model: str) -> ClipSheet:
    """Make the clip, enhance it into lossless FFV1, and compare every frame with its view.

    Raises OnebranchError if the folder holds no picture.
    """
    with tempfile.TemporaryDirectory() as name:
        clip = make_moving_photographs(Path(name) / "clip.mp4", pictures, frames, SIZE)
        result = Path(name) / "big.mkv"
        enhance_video(clip, result, model, video=VideoOptions(codec="ffv1"))
        before, after = list(_frames(clip)), list(_frames(result))
    height, width = SIZE[0] * 2, SIZE[1] * 2
    measured: list[MeasuredFrame] = []
    rows: list[tuple[int, tuple[np.ndarray, ...]]] = []
    originals = views(pictures, frames, (height, width))
    for number, ((start, small), (end, large), view) in enumerate(
        zip(before, after, originals, strict=False)
    ):
        versions = resize(small, height, width, "bicubic"), large, np.asarray(view)
        bicubic, enhanced, original = (_luma(version) for version in versions)
        scores = psnr(bicubic, original), psnr(enhanced, original)
        measured.append(MeasuredFrame(start, end, *scores))
        if number % SHOT_FRAMES in (SHOT_FRAMES // 2, SHOT_FRAMES // 2 + 1):
            rows.append((number, versions))
    return ClipSheet(measured, len(before), len(after), rows)


def _luma(pixels: np.ndarray) -> np.ndarray:
    """Studio luma (H, W) in grey levels of 8-bit pixels (H, W, 3)."""
    return luma(pixels.astype(np.float32) / 255) * 255


def _frames(path: Path) -> Iterator[tuple[float, np.ndarray]]:
    """Time in seconds and pixels (H, W, 3) of every frame."""
    import av

    with av.open(path) as container:
        for frame in container.decode(video=0):
            pixels: Any = frame.to_ndarray(format="rgb24")
            yield float(frame.time or 0), pixels


def report(sheet: ClipSheet) -> list[str]:
    """Frames, times and gains in words."""
    gains = [frame.gain for frame in sheet.frames]
    worst = int(np.argmin(gains))
    same_shot = [n for n in range(1, len(gains)) if n % SHOT_FRAMES]
    jumps = [abs(gains[n] - gains[n - 1]) for n in same_shot]
    first = sheet.frames[0]
    shifts = [abs(f.after - first.after - (f.before - first.before)) for f in sheet.frames]
    return [
        f"frames: {sheet.frames_in} in, {sheet.frames_out} out",
        f"times since the first frame: largest difference {max(shifts) * 1000:.1f} ms",
        f"luma PSNR over bicubic: mean {np.mean(gains):+.2f} dB, min {gains[worst]:+.2f} dB (frame {worst})",
        f"largest change of it from one frame to the next: {max(jumps, default=0.0):.2f} dB",
    ]


def draw(sheet: ClipSheet, path: Path) -> None:
    """Draw two neighbouring frames of every photograph: bicubic, enhanced and original side by side."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = SIZE[0] * 2, SIZE[1] * 2
    size = len(COLUMNS) * (width + GAP) + GAP, len(sheet.rows) * (height + GAP) + HEADING
    drawn = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(drawn)
    for column, heading in enumerate(COLUMNS):
        pen.text((GAP + column * (width + GAP), 5), heading, "black", ImageFont.load_default(15))
    for row, (_, versions) in enumerate(sheet.rows):
        for column, pixels in enumerate(versions):
            corner = GAP + column * (width + GAP), HEADING + row * (height + GAP)
            drawn.paste(Image.fromarray(pixels), corner)
    drawn.save(path)
