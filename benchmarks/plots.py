"""A plot of inference times: a panel for each network, a bar for each configuration, logarithmic time."""

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.inference import InferenceRow
from onebranch.errors import OnebranchError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BAR_COLOURS = {"torch": "#b5b5b5", "onnxruntime": "#5b8db8", "openvino": "#8f7bb8", "engine": "#d9662b"}
"""By runtime."""

UNMERGED_OPACITY = 0.55
"""Opacity of the bars of unmerged networks."""

MAX_COLUMNS, PANEL_WIDTH_INCHES, BAR_HEIGHT_INCHES, PANEL_MARGIN_INCHES = 2, 6.4, 0.27, 1.0
"""Panels side by side; width of a panel; height of a bar with its gap; space above and below the bars."""


FILE_SUFFIXES = (".png", ".svg", ".pdf")
"""Suffixes of plot files."""


def check(path: Path) -> None:
    """Raise OnebranchError, before anything is measured, if the plot cannot be written."""
    if importlib.util.find_spec("matplotlib") is None:
        raise OnebranchError("--plot needs matplotlib; install it with: pip install 'onebranch[train]'")
    if path.suffix.lower() not in FILE_SUFFIXES:
        raise OnebranchError(f"{path}: the name of a plot must end in {', '.join(FILE_SUFFIXES)}")
    if not path.parent.is_dir():
        raise OnebranchError(f"{path}: there is no folder '{path.parent}' to write the plot to")


def save(rows: Sequence[InferenceRow], title: str, path: Path) -> None:
    """Write the plot in the format of the file's suffix. Raises OnebranchError if that fails."""
    try:
        figure(rows, title).savefig(path, dpi=130)
    except OSError as error:
        raise OnebranchError(f"{path}: the plot cannot be written: {error}") from None


def figure(rows: Sequence[InferenceRow], title: str) -> "Figure":
    """The plot in milliseconds; less is better."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    networks = list(dict.fromkeys(row.network for row in rows))
    columns = min(MAX_COLUMNS, len(networks))
    lines = -(-len(networks) // columns)
    max_bars = max(sum(row.network == name for row in rows) for name in networks)
    layout = ConstrainedLayoutEngine(h_pad=0.14, w_pad=0.1)
    drawn = Figure(
        figsize=(
            PANEL_WIDTH_INCHES * columns,
            lines * (BAR_HEIGHT_INCHES * max_bars + PANEL_MARGIN_INCHES) + 0.7,
        ),
        layout=layout,
    )
    drawn.suptitle(title if columns > 1 else title.replace("; ", ";\n"), fontsize=12)
    panels = drawn.subplots(lines, columns, squeeze=False).flatten().tolist()
    limits = _axis_limits([row.milliseconds for row in rows])
    for panel, name in zip(panels, networks, strict=False):
        panel.set_xscale("log")
        panel.set_xlim(*limits)  # the same for all panels, so that bars can be compared
        _draw(panel, [row for row in rows if row.network == name])
    for panel in panels[len(networks) :]:
        panel.set_visible(False)
    return drawn


def _draw(panel: Any, rows: Sequence[InferenceRow]) -> None:
    """Draw one network, in the order of the table."""
    times = [row.milliseconds for row in rows]
    bars = panel.barh(range(len(rows)), times, height=0.74, color=[BAR_COLOURS[row.runtime] for row in rows])
    for bar, row in zip(bars, rows, strict=True):
        bar.set_alpha(UNMERGED_OPACITY if row.structure == "unmerged" else 1)
    panel.set_yticks(range(len(rows)), [row.label for row in rows], fontsize=9)
    panel.invert_yaxis()
    panel.margins(y=0.01)
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    for index, row in enumerate(rows):
        panel.text(row.milliseconds * 1.08, index, _bar_label(row), va="center", fontsize=8.5)
    panel.set_title(f"{rows[0].network}: {rows[0].description}", fontsize=10, loc="left")
    panel.set_xlabel("milliseconds, logarithmic; less is better", fontsize=8.5)
    panel.spines[["top", "right", "left"]].set_visible(False)
    panel.tick_params(axis="y", length=0)
    panel.tick_params(axis="x", labelsize=8.5)


def _axis_limits(times: Sequence[float]) -> tuple[float, float]:
    """Limits of the axis: a power of ten well below the shortest time, and space right of the longest.

    >>> _axis_limits([15.1, 1000.0])
    (1.0, 12000.0)
    """
    return 10.0 ** math.floor(math.log10(min(times) / 2)), 12 * max(times)


def _bar_label(row: InferenceRow) -> str:
    """The text right of a bar.

    >>> from benchmarks.inference import InferenceRow
    >>> row = InferenceRow(
    ...     "n", "", "w", "engine", "merged", "int8", (0.0151,), 1, None, None, None, 8.5, None, 1, 1
    ... )
    >>> _bar_label(row)
    '15.1 ms  (8.5 x)'
    """
    time = f"{row.milliseconds:,.0f} ms" if row.milliseconds >= 100 else f"{row.milliseconds:.1f} ms"
    return time if row.ratio is None else f"{time}  ({row.ratio:.{1 if row.ratio >= 1 else 2}f} x)"
