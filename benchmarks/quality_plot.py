"""The plot of PSNR against time of `benchmarks.quality_speed`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality_speed import QualityRow

COLOURS = {"engine": "#d9662b", "onnxruntime": "#5b8db8", "openvino": "#8f7bb8"}
"""By what runs the network."""

LABELS = {"engine": "onebranch's engine", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}

OFFSETS = ((0, 9), (0, -17), (-9, -3), (8, 9), (-8, 9), (8, -17), (-8, -17), (14, 20), (-14, 20), (0, -30))
"""Where the label of a point is tried, in points from it: above, below, to the left, then farther away."""

FAR = 18
"""Offsets from this many points on get a line from the label to the point."""

MARGIN = 3
"""Pixels that stay free around a label."""


def save_plot(rows: Sequence[QualityRow], title: str, path: Path) -> None:
    """PSNR over milliseconds (logarithmic); published scores are hollow, the points of a network joined."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(10, 6))
    scored = [row for row in rows if row.psnr is not None]
    networks = [row for row in scored if row.runtime != "resize"]
    _draw_points(axes, networks)
    _describe(axes, title)
    _list_resizing(axes, [row for row in scored if row.runtime == "resize"])
    _label(figure, axes, networks)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)


def _draw_points(axes: Any, rows: Sequence[QualityRow]) -> None:
    """Every point, and a line through those of a network."""
    for name in dict.fromkeys(row.network for row in rows):
        points = sorted((row.milliseconds, row.psnr) for row in rows if row.network == name)
        axes.plot(*zip(*points, strict=True), color="#bbbbbb", linewidth=1, zorder=1)
    for row in rows:
        colour = COLOURS[row.runtime]
        face = colour if row.measured else "white"
        axes.scatter(
            row.milliseconds, row.psnr, s=46, color=face, edgecolors=colour, linewidths=1.5, zorder=3
        )


def _list_resizing(axes: Any, rows: Sequence[QualityRow]) -> None:
    """Plain resizing as text in a corner: its points would take most of the plot's width."""
    lines = [f"{row.network}: {row.psnr:.2f} dB in {row.milliseconds:.1f} ms" for row in rows]
    axes.text(0.01, 0.02, "\n".join(lines), transform=axes.transAxes, fontsize=8, color="#555555")


def _describe(axes: Any, title: str) -> None:
    """Axes, title and legend."""
    for runtime, colour in COLOURS.items():
        axes.scatter([], [], color=colour, label=LABELS.get(runtime, runtime))
    axes.scatter([], [], color="white", edgecolors="black", label="published score, random weights")
    axes.set(xscale="log", xlabel="milliseconds per frame (logarithmic)", ylabel="PSNR on Set14 ×2 in dB")
    axes.set_title(title, fontsize=10, loc="left")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.margins(x=0.12, y=0.15)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _label(figure: Any, axes: Any, rows: Sequence[QualityRow]) -> None:
    """Label every network at its fastest point; ours with their precisions. Labels do not cover one another.

    The first offset at which a label covers no point and no earlier label is taken.
    """
    from matplotlib.text import Text

    fastest: dict[str, QualityRow] = {}
    for row in sorted(rows, key=lambda row: row.milliseconds):
        fastest.setdefault(row.network, row)
    figure.canvas.draw()
    points = [axes.transData.transform((row.milliseconds, row.psnr)) for row in rows]
    covered = [(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    for name, row in fastest.items():
        text = _label_text(name, rows)
        for offset in OFFSETS:
            side = "center" if not offset[0] else "left" if offset[0] > 0 else "right"
            style = {"textcoords": "offset points", "fontsize": 8, "color": COLOURS[row.runtime], "ha": side}
            arrow = {"arrowstyle": "-", "color": "#999999"} if abs(offset[1]) > FAR else None
            point = row.milliseconds, row.psnr
            label = axes.annotate(text, point, xytext=offset, arrowprops=arrow, **style)
            label.update_positions(figure.canvas.get_renderer())
            box = Text.get_window_extent(label)  # without the line
            extent = box.x0 - MARGIN, box.y0 - MARGIN, box.x1 + MARGIN, box.y1 + MARGIN
            if not any(_overlap(extent, other) for other in covered) or offset == OFFSETS[-1]:
                covered.append(extent)
                break
            label.remove()


def _label_text(name: str, rows: Sequence[QualityRow]) -> str:
    """The network's name, and our precisions from fast to slow."""
    ours = [row for row in rows if row.network == name and row.runtime == "engine"]
    precisions = [row.precision for row in sorted(ours, key=lambda row: row.milliseconds)]
    return f"{name} ({', '.join(precisions)})" if precisions else name


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """True if two boxes (left, bottom, right, top) share an area."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
