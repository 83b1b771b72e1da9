"""Clips that are made of still photographs: each is panned and zoomed for some seconds."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onebranch.images.folders import find_pictures

if TYPE_CHECKING:
    from PIL.Image import Image

FRAME_RATE = 24

SHOT_FRAMES = 5 * FRAME_RATE
"""Frames for which one photograph is shown."""

MAX_PHOTOGRAPHS = 24

SOUND_RATE = 8000
SOUND_FRAME = 1024
"""Samples per second, and of one frame, of the sound."""


def make_moving_photographs(path: Path, pictures: Path, frames: int, size: tuple[int, int]) -> Path:
    """Write a clip with sound, h264 and aac. size: (height, width). pictures: a folder of photographs.

    Raises OnebranchError if the folder holds no picture.
    """
    import av

    height, width = size
    with av.open(path, "w") as container:
        stream: Any = container.add_stream("libx264", rate=FRAME_RATE, width=width, height=height)
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "20", "preset": "veryfast"}
        sound: Any = container.add_stream("aac", rate=SOUND_RATE, layout="mono")
        seconds = Fraction(frames, FRAME_RATE)
        tones = _tones(int(seconds * SOUND_RATE))
        for number, picture in enumerate(views(pictures, frames, size)):
            frame: Any = av.VideoFrame.from_ndarray(np.asarray(picture), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FRAME_RATE)
            container.mux(stream.encode(frame))
            until = (number + 1) * SOUND_RATE // FRAME_RATE
            for tone in tones:
                container.mux(sound.encode(tone))
                if tone.pts >= until:
                    break
        container.mux(stream.encode(None))
        container.mux(sound.encode(None))
    return path


def views(pictures: Path, frames: int, size: tuple[int, int]) -> Iterator["Image"]:
    """What each frame shows: a window that moves over a photograph and becomes smaller, or larger."""
    from PIL import Image

    paths = find_pictures(pictures)[:MAX_PHOTOGRAPHS]
    shots = -(-frames // SHOT_FRAMES)
    for shot in range(shots):
        with Image.open(paths[shot % len(paths)]) as file:
            photograph = file.convert("RGB")
        count = min(SHOT_FRAMES, frames - shot * SHOT_FRAMES)
        for number in range(count):
            progress = number / SHOT_FRAMES
            zoom = 0.9 - 0.4 * progress if shot % 2 == 0 else 0.5 + 0.4 * progress
            yield photograph.resize(
                size[::-1], Image.Resampling.BICUBIC, _window(photograph, size, zoom, progress)
            )


def _window(
    photograph: "Image", size: tuple[int, int], zoom: float, progress: float
) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of the part that is shown: of the frame's proportions, on its way across."""
    height, width = size
    scale = zoom * min(photograph.width / width, photograph.height / height)
    left = (photograph.width - scale * width) * progress
    top = (photograph.height - scale * height) * (0.3 + 0.4 * progress)
    return left, top, left + scale * width, top + scale * height


def _tones(samples: int) -> Iterator[Any]:
    """Frames of sound: a tone whose pitch rises slowly, so that no two seconds are the same."""
    import av

    for first in range(0, samples, SOUND_FRAME):
        seconds = np.arange(first, min(first + SOUND_FRAME, samples)) / SOUND_RATE
        wave = np.sin(2 * np.pi * (220 * seconds + seconds**2 / 8)).astype(np.float32)
        frame: Any = av.AudioFrame.from_ndarray(wave[None] / 4, "fltp", "mono")
        frame.pts, frame.sample_rate, frame.time_base = first, SOUND_RATE, Fraction(1, SOUND_RATE)
        yield frame
