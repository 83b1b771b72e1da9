"""PSNR against time: our shipped x2 models in the engine, the literature's networks in other runtimes."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
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
    candidates: Candidates = {}
    for name in (n for n in names if not n.endswith(("-int8", "-branches")) and CATALOGUE[n].path.exists()):
        for precision in BITS:
            model = load(quantized_name(name) if precision == "int8" else name)
            score = model.scores.get(SCORE_SET) or load(name).scores.get(SCORE_SET)
            try:
                run = EngineRuntime(model, threads, precision).run
            except OnebranchError as error:
                note(f"{name} in {precision} is skipped: {error}")
                continue
            candidates[name, "engine", precision] = _bound(run, frame[:, :1]), score and score["psnr_y"], True
    return candidates


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
    candidates: Candidates = {}
    for runtime, opened in (("onnxruntime", _in_onnxruntime), ("openvino", _in_openvino)):
        try:
            run = opened(content, threads)
        except ImportError:
            note(f"{runtime} is not installed")
            continue
        candidates[network.name, runtime, "fp32"] = _bound(run, pictures), network.set14_psnr, False
    return candidates


def _in_onnxruntime(content: bytes, threads: int) -> Callable[[np.ndarray], object]:
    import onnxruntime

    from onebranch.runtime.onnxruntime import session_options

    options, providers = session_options(threads), ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(content, options, providers=providers)
    (first,) = session.get_inputs()
    return lambda pictures: session.run(None, {first.name: pictures})


def _in_openvino(content: bytes, threads: int) -> Callable[[np.ndarray], object]:
    from onebranch.runtime.openvino import compiled

    request = compiled(content, threads, "f32").create_infer_request()
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


def processor_text() -> str:
    """The processor's name, or else the architecture, with its widest vector instructions."""
    import platform

    from onebranch.runtime.engine_library import instruction_sets
    from onebranch.runtime.processor import processor_name

    return f"{processor_name() or platform.machine()} ({instruction_sets()[0]})"
