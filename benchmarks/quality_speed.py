"""PSNR against time: our shipped x2 models in the engine, the literature's networks in other runtimes."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.end_to_end import LANCZOS
from benchmarks.published_networks import NETWORKS, PublishedNetwork, exported
from onebranch.bench import DEFAULT_PACING, Pacing, time_interleaved
from onebranch.errors import OnebranchError
from onebranch.model.catalogue import CATALOGUE, load, quantized_name

SCORE_SET = "set14"

PLAIN_SCORES = {"OpenCV cubic": 30.24, LANCZOS: None}
"""PSNR on Set14 of plain resizing, of the bicubic filter that the set is reduced with; None: not measured."""

BITS = ("fp32", "bf16", "int8")

COLOURS = {"engine": "#d9662b", "onnxruntime": "#5b8db8", "openvino": "#8f7bb8", "resize": "#7a7a7a"}
"""Colours of the plot, by what runs the network."""


@dataclass(frozen=True)
class QualityRow:
    """One network in one runtime. psnr: Set14, dB; measured: by us, of trained weights, not published."""

    network: str
    runtime: str
    precision: str
    milliseconds: float
    psnr: float | None
    measured: bool

    def as_json(self) -> dict[str, Any]:
        """Every field as JSON values."""
        return asdict(self)


Run = Callable[[], object]

Candidates = dict[tuple[str, str, str], tuple[Run, float | None, bool]]
"""Network, runtime and precision -> what is timed, its PSNR, and whether we measured that."""


def compare(
    size: tuple[int, int],
    rounds: int,
    threads: int,
    note: Callable[[str], None] = lambda line: None,
    pacing: Pacing = DEFAULT_PACING,
) -> list[QualityRow]:
    """Time everything on one frame (height, width) in one interleaved run; networks get their channels."""
    frame = np.random.default_rng(0).random((1, 3, *size), np.float32)
    candidates: Candidates = {}
    candidates |= _ours(frame, threads, note)
    for network in NETWORKS:
        candidates |= _published(network, frame, threads, note)
    candidates |= _plain_resizing(frame, threads, note)
    runs = {" ".join(key): run for key, (run, _, _) in candidates.items()}
    seconds = time_interleaved(runs, rounds, pacing)
    return [
        QualityRow(*key, 1e3 * median(seconds[" ".join(key)]), psnr, measured)
        for key, (_, psnr, measured) in candidates.items()
    ]


def _ours(frame: np.ndarray, threads: int, note: Callable[[str], None]) -> Candidates:
    """The shipped x2 models of luma in every precision of the engine."""
    from onebranch.runtime.engine import EngineRuntime

    names = [n for n, e in CATALOGUE.items() if (e.task, e.scale, e.colour) == ("upscale", 2, "y")]
    found: Candidates = {}
    for name in (n for n in names if not n.endswith(("-int8", "-branches")) and CATALOGUE[n].path.exists()):
        for precision in BITS:
            model = load(quantized_name(name) if precision == "int8" else name)
            score = model.scores.get(SCORE_SET) or load(name).scores.get(SCORE_SET)
            try:
                run = EngineRuntime(model, threads, precision).run
            except OnebranchError as error:
                note(f"{name} in {precision} is skipped: {error}")
                continue
            found[name, "engine", precision] = _bound(run, frame[:, :1]), score and score["psnr_y"], True
    return found


def _bound(run: Callable[[np.ndarray], object], pictures: np.ndarray) -> Run:
    ready = np.ascontiguousarray(pictures)
    return lambda: run(ready)


def _published(
    network: PublishedNetwork, frame: np.ndarray, threads: int, note: Callable[[str], None]
) -> Candidates:
    """A network of the literature, with random weights, in ONNX Runtime and in OpenVINO."""
    size = frame.shape[2], frame.shape[3]
    content = exported(network, size).SerializeToString()
    pictures = np.ascontiguousarray(frame[:, : network.channels])
    found: Candidates = {}
    for runtime, opened in (("onnxruntime", _in_onnxruntime), ("openvino", _in_openvino)):
        try:
            run = opened(content, threads)
        except ImportError:
            note(f"{runtime} is not installed")
            continue
        found[network.name, runtime, "fp32"] = _bound(run, pictures), network.set14_psnr, False
    return found


def _in_onnxruntime(content: bytes, threads: int) -> Callable[[np.ndarray], object]:
    import onnxruntime

    from onebranch.runtime.onnxruntime import session_options

    options, providers = session_options(threads), ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(content, options, providers=providers)
    (first,) = session.get_inputs()
    return lambda pictures: session.run(None, {first.name: pictures})


def _in_openvino(content: bytes, threads: int) -> Callable[[np.ndarray], object]:
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(content, b""), "CPU", settings)
    request = compiled.create_infer_request()
    return lambda pictures: request.infer([pictures], share_inputs=True, share_outputs=True)


def _plain_resizing(frame: np.ndarray, threads: int, note: Callable[[str], None]) -> Candidates:
    """OpenCV's cubic and Lanczos-4 resize of the luma plane."""
    try:
        import cv2
    except ImportError:
        note("plain resizing is skipped: pip install opencv-python-headless")
        return {}
    cv2.setNumThreads(threads)
    plane = np.ascontiguousarray(frame[0, 0])
    size = 2 * plane.shape[1], 2 * plane.shape[0]
    kinds = {"OpenCV cubic": cv2.INTER_CUBIC, LANCZOS: cv2.INTER_LANCZOS4}

    def resizing(kind: int) -> Run:
        return lambda: cv2.resize(plane, size, interpolation=kind)

    return {(name, "resize", ""): (resizing(kind), PLAIN_SCORES[name], True) for name, kind in kinds.items()}


def processor_name() -> str:
    """The processor's name as Linux gives it, with its widest vector instructions; else the architecture."""
    import platform

    from onebranch.runtime.engine_library import instruction_sets

    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.machine()
    return f"{name} ({instruction_sets()[0]})"


def save_plot(rows: Sequence[QualityRow], title: str, path: Path) -> None:
    """PSNR over milliseconds (logarithmic); published scores are hollow, our precisions joined by a line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5.2), layout="constrained")
    for row in rows:
        if row.psnr is not None:
            _draw_row(axes, row, row.psnr)
    ours = [row for row in rows if row.psnr is not None and row.runtime == "engine"]
    for name in dict.fromkeys(row.network for row in ours):
        line = sorted((row.milliseconds, row.psnr or 0.0) for row in ours if row.network == name)
        axes.plot(*zip(*line, strict=True), color=COLOURS["engine"], linewidth=1)
    for runtime, colour in COLOURS.items():
        axes.scatter([], [], color=colour, label=runtime)
    axes.scatter([], [], color="white", edgecolors="black", label="published score")
    axes.set(xscale="log", xlabel="milliseconds a frame, logarithmic", ylabel="PSNR on Set14 ×2 in dB")
    axes.set_title(title, fontsize=10, loc="left")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _draw_row(axes: Any, row: QualityRow, psnr: float) -> None:
    """One point with its label, below it for OpenVINO."""
    colour = COLOURS[row.runtime]
    face = colour if row.measured else "white"
    axes.scatter(row.milliseconds, psnr, s=46, color=face, edgecolors=colour, linewidths=1.5, zorder=3)
    text = f"{row.network} {row.precision}" if row.runtime == "engine" else row.network
    offset = (5, 4) if row.runtime != "openvino" else (5, -10)
    style = {"textcoords": "offset points", "fontsize": 7.5, "color": colour}
    axes.annotate(text.strip(), (row.milliseconds, psnr), xytext=offset, **style)
