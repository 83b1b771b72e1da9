"""Models as user shaders of mpv and libplacebo, run in ffmpeg's libplacebo and compared with the network."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from onebranch.algebra.network import run_network
from onebranch.errors import OnebranchError
from onebranch.exporting.comparison import Comparison, Exported, NotRun
from onebranch.exporting.mpv_shader import shader_text
from onebranch.exporting.onnx import real_picture
from onebranch.model.file import Model
from onebranch.progress import StepProgress, no_progress

MAX_LEVELS = 1.0
"""Largest difference in grey levels of 8 bits, at any pixel."""

COMPARED_BITS = (8, 10)
"""The depths of video in which a shader is compared."""

PICTURE_SIZE = 45, 67
"""Height and width of the picture for the comparison: odd, so that nothing depends on even sizes."""

TIMEOUT_SECONDS = 300.0
"""Time for one run of ffmpeg; a software driver compiles a shader in seconds."""


def export_mpv(model: Model, progress: StepProgress = no_progress) -> Exported:
    """The model as a shader, and its comparisons with the network in 8 and 10 bits.

    The shader is run if ffmpeg has the filter libplacebo and a Vulkan device, which may be a software driver;
    else the result says why it was not run. progress: called with the share of the runs of ffmpeg. Raises
    OnebranchError for a network that no shader can hold, and for a difference of more than one grey level at
    any pixel.
    """
    text = shader_text(model)
    device, reason = vulkan_device()
    if reason:
        return Exported(text.encode(), (NotRun("ffmpeg's libplacebo", reason),))
    comparisons = []
    for number, bits in enumerate(COMPARED_BITS, 1):
        # The search for the device takes about as long as one comparison.
        progress(f"running the shader in {bits} bits", number / (len(COMPARED_BITS) + 1))
        comparisons.append(compare(model, text, bits, device))
    return Exported(text.encode(), tuple(comparison.checked("mpv") for comparison in comparisons))


def compare(model: Model, text: str, bits: int, device: str) -> Comparison:
    """The shader's result for one picture of that depth, compared with the network."""
    codes = comparison_picture(model, bits)
    unit = 2.0 ** (bits - 8)  # codes for one grey level of 8 bits
    expected = run_network(model.spec, model.weights, codes[None, None] / unit / 255)[0, 0] * 255
    actual = run_shader(text, codes, bits, model.spec.scale)
    # 16-bit samples end at 255.996 grey levels
    difference = np.abs(np.clip(expected, 0, 65535 / 256) - actual).max()
    runtime = f"ffmpeg's libplacebo on {device}, {bits} bits"
    return Comparison(runtime, "off by (grey levels)", float(difference), MAX_LEVELS)


def comparison_picture(model: Model, bits: int) -> np.ndarray:
    """A luma plane of limited range, (H, W) codes as float64: a photograph, and noise in its right third."""
    height, width = PICTURE_SIZE
    plane = real_picture(model.spec)[0, 0, :height, :width].astype(np.float64)
    noise = np.random.default_rng(0).uniform(16 / 255, 235 / 255, (height, width // 3))
    plane[:, -noise.shape[1] :] = noise
    return np.asarray(np.round(plane * 255 * 2 ** (bits - 8)))


def run_shader(text: str, codes: np.ndarray, bits: int, scale: float) -> np.ndarray:
    """The luma plane that the shader makes, in grey levels of 8 bits with fractions: (s H, s W) float64.

    codes: (H, W), of limited range in `bits` bits. Raises OnebranchError if ffmpeg fails.
    """
    height, width = codes.shape
    size = round(height * scale), round(width * scale)
    depth: type = np.uint8 if bits == 8 else np.uint16
    neutral: np.ndarray = np.full((2, height, width), 2 ** (bits - 1), depth)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "in.yuv").write_bytes(codes.astype(depth).tobytes() + neutral.tobytes())
        Path(folder, "shader.glsl").write_text(text)
        pixels = "yuv444p" if bits == 8 else f"yuv444p{bits}le"
        picture = ["-f", "rawvideo", "-pix_fmt", pixels, "-s", f"{width}x{height}", "-i", "in.yuv"]
        reason = _run_ffmpeg(folder, picture, (size[1], size[0]), "custom_shader_path=shader.glsl")
        if reason:
            raise OnebranchError(f"the shader does not run in ffmpeg's libplacebo: {reason}")
        samples = np.fromfile(Path(folder, "out.yuv"), np.uint16)
    return samples[: size[0] * size[1]].reshape(size) / 256


def vulkan_device() -> tuple[str, str]:
    """The name of the Vulkan device, and "" or the reason why ffmpeg cannot run libplacebo."""
    if shutil.which("ffmpeg") is None:
        return "", "ffmpeg is not installed"
    arguments = ["-v", "verbose", "-init_hw_device", "vulkan=vk:0", "-f", "lavfi", "-i", "color=s=16x16"]
    with tempfile.TemporaryDirectory() as folder:
        reason = _run_ffmpeg(folder, ["-f", "lavfi", "-i", "color=s=16x16:d=0.04"], (16, 16), "deband=0")
        if reason:
            return "", f"ffmpeg cannot use libplacebo: {reason}"
        log = _ffmpeg(folder, [*arguments, "-frames:v", "1", "-f", "null", "-"]).stderr
    named = re.search(r"Device \d+ selected: (.*?) \(", log)
    return (named[1] if named else "Vulkan"), ""


def _run_ffmpeg(folder: str, picture: list[str], size: tuple[int, int], option: str) -> str:
    """Run one picture through libplacebo into out.yuv; "" or the reason why that failed.

    size: (width, height) of the result. option: a further option of the filter.
    """
    wanted = f"w={size[0]}:h={size[1]}:format=yuv444p16:colorspace=smpte170m:range=tv:dithering=none"
    chain = f"hwupload,libplacebo={wanted}:{option},hwdownload,format=yuv444p16le"
    device = ["-init_hw_device", "vulkan=vk:0", "-filter_hw_device", "vk"]
    result = ["-frames:v", "1", "-vf", chain, "-f", "rawvideo", "out.yuv"]
    done = _ffmpeg(folder, ["-v", "error", *device, *picture, *result])
    lines = done.stderr.strip().splitlines()
    if done.returncode == 0 and not lines:
        return ""
    return lines[0] if lines else f"ffmpeg ended with code {done.returncode}"


def _ffmpeg(folder: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    command = ["ffmpeg", "-hide_banner", "-nostdin", *arguments]
    try:
        return subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no result within {TIMEOUT_SECONDS:.0f} seconds")
