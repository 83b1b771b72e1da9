"""The tables that benchmarks print."""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.commands import CommandRow, CommandsResult
    from benchmarks.end_to_end import EndToEndRow
    from benchmarks.inference import InferenceResult, InferenceRow
    from benchmarks.instruction_sets import SetRow
    from benchmarks.published_speed import PublishedRow
    from benchmarks.quality_speed import QualityRow
    from benchmarks.scaling import PixelCost, SmallPictures, StreamMemory
    from benchmarks.targets import Target
    from benchmarks.video import VideoRow

TEXT_COLUMNS = (
    "network",
    "configuration",
    "instructions",
    "model",
    "input",
    "goal",
    "picture",
    "workload",
    "encoder",
    "step",
    "clip",
    "preset",
    "method",
)
"""Headings of left-aligned columns; the others hold numbers."""

REDIRECTED_COLUMNS = 140
"""Characters per line where the output is a file or a pipe."""

Cells = tuple[str, ...]


def print_table(
    title: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    caption: str | None = None,
    sections: Sequence[int] = (),
) -> None:
    """Print a table with right-aligned numbers. sections: indices of rows below which a line is drawn."""
    from rich.console import Console
    from rich.table import Table

    min_width = min(len(title) + 4, REDIRECTED_COLUMNS)  # so that titles are not wrapped
    table = Table(title=title, caption=caption, caption_justify="left", min_width=min_width)
    for heading in headings:
        is_text = heading in TEXT_COLUMNS
        table.add_column(heading, justify="left" if is_text else "right", no_wrap=is_text)
    for index, row in enumerate(rows):
        table.add_row(*row, end_section=index in sections)
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, REDIRECTED_COLUMNS)
    console.print(table)


INFERENCE_HEADINGS = (
    "network",
    "configuration",
    "instructions",
    "ms",
    "Mpixel/s",
    "of peak",
    "memory",
    "first run",
    "over ONNX Runtime",
    "loss",
)


def print_inference(result: "InferenceResult", title: str) -> None:
    """The rows of every network, and the measured peaks."""
    rows = result.rows
    last = [k for k, row in enumerate(rows) if k + 1 == len(rows) or rows[k + 1].network != row.network]
    print_table(title, INFERENCE_HEADINGS, list(_inference_cells(rows)), peaks_line(result), last)


def peaks_line(result: "InferenceResult") -> str | None:
    """The measured peaks in one line."""
    if not result.peaks:
        return None
    each = ", ".join(f"{precision} {rate / 1e9:,.0f}" for precision, rate in result.peaks.items())
    return f"measured peak, 10^9 multiply-accumulates per second on all threads: {each}"


def _inference_cells(rows: "Sequence[InferenceRow]") -> Iterator[Cells]:
    previous = ""
    for row in rows:
        yield (
            row.network if row.network != previous else "",
            row.label,
            milliseconds(row.milliseconds),
            f"{row.megapixels:.1f}",
            _percent(row.share),
            "" if row.megabytes is None else f"{row.megabytes:,.0f} MB",
            "" if row.first_milliseconds is None else f"{milliseconds(row.first_milliseconds)} ms",
            "" if row.ratio is None else f"{row.ratio:.2f} x",
            "" if row.loss_db is None else f"{row.loss_db:.3f} dB",
        )
        previous = row.network


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def milliseconds(number: float) -> str:
    """A number of milliseconds with about three digits.

    >>> milliseconds(3214.7), milliseconds(15.06)
    ('3,215', '15.1')
    """
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}"


def print_end_to_end(rows: "Sequence[EndToEndRow]", title: str) -> None:
    """Times from RGB bytes to RGB bytes."""
    cells = [
        (
            row.label,
            milliseconds(row.milliseconds),
            f"{row.megapixels:.1f}",
            "" if row.ratio is None else f"{row.ratio:.2f} x",
        )
        for row in rows
    ]
    print_table(title, ("configuration", "ms", "Mpixel/s", "over OpenCV"), cells)


def print_quality(rows: "Sequence[QualityRow]", title: str) -> None:
    """PSNR and time of every network, the fastest first."""
    cells = [
        (
            row.network,
            row.runtime,
            row.precision,
            milliseconds(row.milliseconds),
            "-" if row.psnr is None else f"{row.psnr:.2f}",
            "measured" if row.measured else "published",
        )
        for row in sorted(rows, key=lambda row: row.milliseconds)
    ]
    print_table(title, ("network", "runs in", "precision", "ms", "Set14 PSNR", "score"), cells)


def print_sets(rows: "Sequence[SetRow]", title: str) -> None:
    """Medians and ratios of every network and instruction set."""
    headings = (
        *("network", "instructions", "engine fp32", "int8", "OpenVINO fp32", "int8", "ONNX Runtime"),
        *("over OpenVINO fp32", "int8", "int8 over fp32", "int8 peak"),
    )
    cells, sections, previous = list[Cells](), list[int](), ""
    for row in rows:
        if previous and row.shape != previous:
            sections.append(len(cells) - 1)
        times = [*_medians(row.engine), *_medians(row.openvino), _median(row.onnxruntime)]
        ratios = [row.over_openvino("fp32"), row.over_openvino("int8"), row.int8_over_fp32()]
        share = _percent(row.peak_shares.get("int8"))
        network = row.shape if row.shape != previous else ""
        cells.append((network, row.instructions, *times, *map(_times, ratios), share))
        previous = row.shape
    caption = "OpenVINO held to the same instructions by ONEDNN_MAX_CPU_ISA; ONNX Runtime unrestricted, fp32"
    print_table(title, headings, cells, caption, sections)


def print_published(rows: "Sequence[PublishedRow]", title: str) -> None:
    """Medians, ratios and memory of every network of the literature."""
    from benchmarks.published_runtimes import ENGINE, ENGINE_INT8, ONNXRUNTIME, OPENVINO

    headings = (
        *("network", "engine ms", "int8", "ONNX Runtime", "OpenVINO"),
        *("over ONNX Runtime", "int8 over ONNX Runtime", "over OpenVINO"),
        *("engine memory", "ONNX Runtime", "OpenVINO", "engine over ONNX Runtime"),
    )
    runtimes = (ENGINE, ONNXRUNTIME, OPENVINO)
    timed = (runtimes[0], ENGINE_INT8, *runtimes[1:])
    cells = [
        (
            row.network,
            *(_median(row.seconds.get(runtime, ())) for runtime in timed),
            _times(row.over(ONNXRUNTIME)),
            _times(row.over(ONNXRUNTIME, ENGINE_INT8)),
            _times(row.over(OPENVINO)),
            *(_megabytes(row.megabytes.get(runtime)) for runtime in runtimes),
            _percent(row.memory_share()),
        )
        for row in rows
    ]
    print_table(title, headings, cells)


def _medians(seconds: "Mapping[str, Sequence[float]]") -> list[str]:
    return [_median(seconds.get(precision, ())) for precision in ("fp32", "int8")]


def _median(seconds: Sequence[float]) -> str:
    return milliseconds(1e3 * median(seconds)) if seconds else ""


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f} x"


def print_targets(targets: "Sequence[Target]", title: str = "Goals, on two cores with AVX-512") -> None:
    """The reached values and the goals."""
    cells = [
        (
            target.description,
            f"{target.reached:.2f}{target.unit}",
            f"{'at most' if target.at_most else 'at least'} {target.wanted:g}{target.unit}",
            "yes" if target.met else "no",
        )
        for target in targets
    ]
    if cells:
        print_table(title, ("goal", "reached", "wanted", "met"), cells)


def print_scaling(
    costs: "Sequence[PixelCost]",
    small: "Sequence[SmallPictures]",
    memories: "Sequence[StreamMemory]",
    title: str,
) -> None:
    """Cost per pixel by size and precision; many small pictures; memory of tall pictures."""
    from benchmarks.scaling import SMALL_COUNT, SMALL_EDGE

    precisions = list(dict.fromkeys(cost.precision for cost in costs))
    nanoseconds = {(cost.edge, cost.precision): cost.nanoseconds for cost in costs}
    edges = list(dict.fromkeys(cost.edge for cost in costs))
    cells = [(f"{e:,} x {e:,}", *(f"{nanoseconds[e, p]:.1f}" for p in precisions)) for e in edges]
    print_table(title, ("picture", *precisions), cells)
    print_table(
        f"{SMALL_COUNT} pictures of {SMALL_EDGE} x {SMALL_EDGE}, and one of as many pixels: milliseconds",
        (
            "precision",
            "one thread each",
            "in turn, all threads",
            "large",
            "one thread / large, in turn / large",
        ),
        [
            (
                each.precision,
                *(f"{1e3 * seconds:.0f}" for seconds in (each.batch, each.in_turn, each.large)),
                f"{each.batch / each.large:.2f}, {each.in_turn / each.large:.2f}",
            )
            for each in small
        ],
    )
    megabytes = {(m.width, m.rows, m.precision): m.megabytes for m in memories}
    pictures = dict.fromkeys((m.width, m.rows) for m in memories)
    cells = [(f"{w:,} x {r:,}", *(_megabytes(megabytes[w, r, p]) for p in precisions)) for w, r in pictures]
    print_table("Memory beyond Python with numpy, streamed", ("picture", *precisions), cells)


def _megabytes(number: float | None) -> str:
    return "" if number is None else f"{number:.1f} MB"


def print_commands(result: "CommandsResult", title: str) -> None:
    """Commands compared with just the network; encoders; a cold start."""
    print_table(
        f"onebranch enhance, photo-x2: {title}",
        ("workload", "s", "CPU s", "Mpixel/s", "peak memory", "just the network, s", "command over it"),
        list(_command_cells(result.rows)),
        sections=[count - 1 for count in accumulate(len(row.network_seconds) for row in result.rows)],
    )
    height, width = result.encoded_size
    print_table(
        f"Encoding a result of {width}x{height}: share of the command's CPU time on the folder",
        ("encoder", "CPU ms", "MB", "share"),
        [
            (each.name, milliseconds(each.milliseconds), f"{each.megabytes:.2f}", _percent(each.share))
            for each in result.encoders
        ],
    )
    command, steps = result.cold_start_seconds, sum(result.cold_start_steps.values()) / 1e3
    print_table(
        f"Cold start on a 512x512 JPEG: {command:.3f} s the command, {steps:.3f} s in steps",
        ("step", "ms"),
        [(name, milliseconds(duration)) for name, duration in result.cold_start_steps.items()],
    )


def _command_cells(rows: "Sequence[CommandRow]") -> Iterator[Cells]:
    for row in rows:
        command: Cells = (
            row.name,
            f"{row.seconds:.2f}",
            f"{row.processor_seconds:.2f}",
            f"{4 * row.megapixels / row.seconds:.1f}",
            "" if row.megabytes is None else f"{row.megabytes:,.0f} MB",
        )
        for label, seconds in row.network_seconds.items():
            yield (*command, f"{label} {seconds:.2f}", f"{row.ratios[label]:.2f} x")
            command = ("",) * len(command)


VIDEO_HEADINGS = ("clip", "preset", "method", "frames/s", "allowed", "reached", "decode", "enhance", "encode")


def print_video(rows: Sequence["VideoRow"], title: str) -> None:
    """Frame rates of clips, and the processor milliseconds and the share of each stage."""
    cells = []
    for row in rows:
        stages = zip((row.decode, row.enhance, row.encode), row.shares, strict=True)
        times = [f"{1000 * seconds:.1f} ms {100 * share:.0f} %" for seconds, share in stages]
        rates = (f"{row.frame_rate:.1f}", f"{row.allowed:.1f}", f"{100 * row.efficiency:.0f} %")
        cells.append((row.clip, row.preset, row.method, *rates, *times))
    caption = "allowed: cores / processor time of all stages; reached: the share of it"
    print_table(title, VIDEO_HEADINGS, cells, caption)
