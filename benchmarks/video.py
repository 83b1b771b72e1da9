"""`onebranch enhance` on clips: frames/s, processor time of each stage, and the frame rate that these allow.

Beside the network stand plain bicubic resizing of the planes, through the same decoder, queues and encoder,
and FFmpeg's Lanczos. Clips pan over a picture: a smooth one, and one with film grain, which encoders find
harder. Processor time is that of all threads of the process.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks.targets import Target
from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.options import Options, Size
from onebranch.images.folders import find_pictures
from onebranch.images.reading import read
from onebranch.images.resize import resize
from onebranch.read_ahead import ReadAhead
from onebranch.runtime.cores import cores
from onebranch.video.containers import CONTAINERS
from onebranch.video.decoding import ClipPart, ClipReader
from onebranch.video.encoding import ClipEncoding, Encoder, choose_encoding
from onebranch.video.options import VideoOptions
from onebranch.video.pipeline import WriteBehind
from onebranch.video.pixel_format import PixelFormat
from onebranch.video.plane_enhancer import PlaneEnhancer
from onebranch.video.planes import Planes, frame_of, planes_of
from onebranch.video.probe import ClipProbe, probe_clip
from onebranch.video.timestamps import FrameTime

MIN_FRAME_RATE, MIN_EFFICIENCY = 24.0, 0.85
"""The goals: frames/s at 960x540 to 1920x1080, and the share of the frame rate that processor times allow."""

SIZE = (540, 960)
"""(height, width) of the clips."""

GRAIN = 8.0
"""Standard deviation of the grain, in grey levels."""

QUEUED_FRAMES = 4

FORMAT = PixelFormat("yuv", 8, (2, 2))

Result = TypeVar("Result")

EnhancePlanes = Callable[[Planes], Planes]


@dataclass(frozen=True)
class VideoRow:
    """One method on one clip with one preset.

    frame_rate: of the pipeline. decode, enhance, encode: processor seconds for a frame, each stage alone.
    """

    clip: str
    preset: str
    method: str
    frame_rate: float
    decode: float
    enhance: float
    encode: float

    @property
    def allowed(self) -> float:
        """The frame rate that the processor times allow on all cores."""
        return cores() / (self.decode + self.enhance + self.encode)

    @property
    def efficiency(self) -> float:
        """The share of the allowed frame rate that is reached."""
        return self.frame_rate / self.allowed

    @property
    def shares(self) -> tuple[float, float, float]:
        """The shares of decoding, enhancing and encoding in the processor time."""
        total = self.decode + self.enhance + self.encode
        return self.decode / total, self.enhance / total, self.encode / total


def video_targets(rows: Sequence[VideoRow]) -> list[Target]:
    """The goals for the network: frames/s with the preset veryfast, and the share of what is allowed."""
    targets = []
    for row in rows:
        if not row.method.startswith("network"):
            continue
        name = f"{row.clip}, {row.preset}"
        if row.preset == "veryfast":
            targets.append(Target(f"{name}: frames/s", MIN_FRAME_RATE, row.frame_rate, ""))
        targets.append(Target(f"{name}: share of the allowed rate", MIN_EFFICIENCY, row.efficiency, ""))
    return targets


def make_clip(path: Path, frames: int, grainy: bool, pictures: Path | None, size: Size = SIZE) -> Path:
    """A clip that pans over a picture and zooms into it; over waves if there is no folder of pictures."""
    import av

    still = _still(pictures, size)
    rng = np.random.default_rng(0)
    with av.open(path, "w") as container:
        stream: Any = container.add_stream(
            "libx264", rate=24, width=size[1], height=size[0], options={"crf": "16", "preset": "veryfast"}
        )
        for number in range(frames):
            top, left = (number * (s - w) // max(1, frames) for s, w in zip(still.shape, size, strict=True))
            luma = still[top : top + size[0], left : left + size[1]].astype(np.float32)
            if grainy:
                luma = luma + rng.normal(0, GRAIN, luma.shape).astype(np.float32)
            chroma = np.full((size[0] // 2, size[1] // 2), 128, np.uint8)
            planes = (np.clip(luma, 16, 235).astype(np.uint8), chroma, chroma)
            frame: Any = frame_of(planes, FORMAT)
            frame.pts, frame.time_base = number, Fraction(1, 24)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _still(pictures: Path | None, size: Size) -> np.ndarray:
    """Luma of a picture, half as large again as the frames."""
    height, width = (side * 3 // 2 for side in size)
    if pictures is None:
        rows, columns = np.mgrid[:height, :width]
        return np.asarray(125 + 50 * np.sin(columns / 9 + rows / 31) + 40 * np.sin(rows / 5))
    picture = read(os.fspath(find_pictures(pictures)[0])).pixels.astype(np.float32)
    grey = picture[..., :3].mean(axis=2) * (219 / 255) + 16
    enlarged: np.ndarray = resize(grey, height, width)
    return enlarged


def methods(probe: ClipProbe, model: str, threads: int | None) -> Iterator[tuple[str, EnhancePlanes, Size]]:
    """Every method: its name, its function on planes, and (height, width) of the results."""
    enhancer = Enhancer(Options(model=model, precision="fast", threads=threads))
    target = enhancer.size_of_result(probe.size)
    network = PlaneEnhancer(enhancer, probe.layout, target)
    yield f"network {model}", network, target
    yield "bicubic", network.resized, target
    yield "FFmpeg Lanczos", lambda planes: lanczos(planes, target), target
    network.close()


def lanczos(planes: Planes, size: Size) -> Planes:
    """The planes resized by FFmpeg's Lanczos filter."""
    frame = frame_of(planes, FORMAT).reformat(width=size[1], height=size[0], interpolation="LANCZOS")
    return planes_of(frame, FORMAT)


def measure(
    folder: Path,
    frames: int,
    model: str,
    presets: tuple[str, ...],
    pictures: Path | None,
    threads: int | None,
) -> Iterator[VideoRow]:
    """Time every method on every clip with every preset."""
    for clip in ("smooth", "grainy"):
        probe = probe_clip(make_clip(folder / f"{clip}.mp4", frames, clip == "grainy", pictures))
        for method, enhance, size in methods(probe, model, threads):
            for preset in presets:
                yield measure_row(probe, clip, preset, (method, enhance), size)


def measure_row(
    probe: ClipProbe, clip: str, preset: str, method: tuple[str, EnhancePlanes], size: Size
) -> VideoRow:
    """Time the stages, each alone, and then the pipeline."""
    name, enhance = method
    encoding = encoding_for(probe, preset)
    decode, decoded = _processor_seconds(lambda: list(ClipReader(probe, ClipPart()).frames()))
    enhance(decoded[0].planes)  # opens and warms up the network
    seconds, enhanced = _processor_seconds(lambda: [enhance(frame.planes) for frame in decoded])
    results = list(zip(enhanced, (frame.time for frame in decoded), strict=True))
    encode, _ = _processor_seconds(lambda: _encode(results, encoding, size))
    begin = time.perf_counter()
    run(probe, enhance, encoding, size)
    rate = len(decoded) / (time.perf_counter() - begin)
    count = len(decoded)
    return VideoRow(clip, preset, name, rate, decode / count, seconds / count, encode / count)


def run(probe: ClipProbe, enhance: EnhancePlanes, encoding: ClipEncoding, size: Size) -> None:
    """The pipeline of `enhance`: decoding, enhancing and encoding at the same time, with bounded queues."""
    with tempfile.TemporaryDirectory() as folder:
        sink = _Sink(Path(folder, "out.mkv"), encoding, size)
        frames = ClipReader(probe, ClipPart()).frames()
        with ReadAhead(frames, QUEUED_FRAMES) as decoded, WriteBehind(sink.write, QUEUED_FRAMES) as encoded:
            for frame in decoded:
                encoded.put((enhance(frame.planes), frame.time))
        sink.close()


def encoding_for(probe: ClipProbe, preset: str) -> ClipEncoding:
    """h264 with that preset, as `enhance` chooses it."""
    return choose_encoding(
        CONTAINERS["Matroska"],
        probe.layout.pixel_format,
        probe.layout.tags,
        probe.hdr,
        VideoOptions(codec="h264", preset=preset),
        time_base=probe.time_base,
        rate=probe.rate,
        aspect=None,
        threads=cores(),
    )


class _Sink:
    """Encodes frames into a file."""

    def __init__(self, path: Path, encoding: ClipEncoding, size: Size) -> None:
        import av

        self._container = av.open(path, "w")
        self._encoder = Encoder(self._container, encoding, size)

    def write(self, frame: tuple[Planes, FrameTime]) -> None:
        """Encode a frame."""
        for packet, _ in self._encoder.encode(*frame):
            self._container.mux(packet)

    def close(self) -> None:
        """Finish the file."""
        for packet, _ in self._encoder.finish():
            self._container.mux(packet)
        self._container.close()


def _encode(frames: Sequence[tuple[Planes, FrameTime]], encoding: ClipEncoding, size: Size) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sink = _Sink(Path(folder, "out.mkv"), encoding, size)
        for frame in frames:
            sink.write(frame)
        sink.close()


def _processor_seconds(work: Callable[[], Result]) -> tuple[float, Result]:
    begin = time.process_time()
    result = work()
    return time.process_time() - begin, result
