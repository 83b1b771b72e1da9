"""The shapes of the drawings as SVG text in absolute coordinates.

Only plain attributes, without style sheets, markers or embedded fonts, so that every viewer shows the same.
"""

from collections.abc import Iterable
from html import escape
from types import MappingProxyType

FONT = "Helvetica Neue, Helvetica, Arial, Liberation Sans, DejaVu Sans, sans-serif"
"""A sans-serif font of the reader's system."""

INK, MUTED, PAPER, PANEL, WIRE, SKIP, KERNEL = (
    *("#1f2a37", "#667384", "#ffffff", "#f4f6f9", "#4b5a6b", "#0f8a83", "#b7662a"),
)
"""Colours of text, secondary text, background, panels, lines of the picture, of skips and of kernels."""

FILLS = MappingProxyType(
    {
        "convolution": ("#dce9fa", "#5b8fd0"),
        "normalization": ("#fdf0cf", "#d3a53c"),
        "average": ("#dbf1e2", "#5fa97a"),
        "edge": ("#ece4f9", "#9577c9"),
        "activation": ("#fbe1da", "#d9765a"),
        "layer": ("#d9f0ef", "#3f9f99"),
        "picture": ("#e8ecf1", "#8794a4"),
        "panel": (PANEL, "#d5dce5"),
        "frame": ("#ffffff", "#a9b5c4"),
        "paper": (PAPER, "#e1e6ec"),
        "badge": (INK, INK),
    }
)
"""Fill and outline of every kind of box."""


def text_width(text: str, size: float) -> float:
    """An estimate of the width of `text` in pixels, which is rarely too small.

    >>> text_width("3×3", 10) < text_width("3×3 dw", 10)
    True
    """
    return sum(0.37 if letter in " .,:;'|iljt·" else 0.68 for letter in text) * size


def escaped(text: str) -> str:
    """`text` escaped for XML; unprintable characters become U+FFFD.

    >>> escaped("a < b\\x00")
    'a &lt; b\ufffd'
    """
    return escape("".join(c if c.isprintable() else "\ufffd" for c in text), quote=False)


def write_text(
    x: float,
    y: float,
    text: str,
    size: float = 12,
    colour: str = INK,
    anchor: str = "middle",
    weight: int = 400,
) -> str:
    """A line of text on the baseline `y`."""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" fill="{colour}" text-anchor="{anchor}"'
        f' font-weight="{weight}">{escaped(text)}</text>'
    )


def rectangle(x: float, y: float, width: float, height: float, kind: str, radius: float = 6) -> str:
    """A box with round corners whose upper left corner is at (x, y)."""
    fill, stroke = FILLS[kind]
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius:g}" fill="{fill}"'
        f' stroke="{stroke}" stroke-width="1.2"/>'
    )


def cover(x: float, y: float, width: float, height: float, colour: str) -> str:
    """A filled area that hides a line behind a label."""
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{colour}"/>'


def wire(points: str, colour: str = WIRE, dashes: str = "none") -> str:
    """A line along an SVG path in absolute commands."""
    return (
        f'<path d="{points}" fill="none" stroke="{colour}" stroke-width="1.6" stroke-linecap="round"'
        f' stroke-linejoin="round" stroke-dasharray="{dashes}"/>'
    )


def arrow_head(x: float, y: float, towards: str = "down", colour: str = WIRE) -> str:
    """A filled head whose tip is at (x, y); it points "down", "left" or "right"."""
    corners = {"down": ((-4, -7), (4, -7)), "left": ((7, -4), (7, 4)), "right": ((-7, -4), (-7, 4))}[towards]
    (a, b), (c, d) = corners
    return f'<path d="M {x:g} {y:g} L {x + a:g} {y + b:g} L {x + c:g} {y + d:g} Z" fill="{colour}"/>'


def dot(x: float, y: float, colour: str = WIRE) -> str:
    """The dot at which a line splits."""
    return f'<circle cx="{x:g}" cy="{y:g}" r="3.4" fill="{colour}"/>'


def plus(x: float, y: float, colour: str = WIRE) -> str:
    """An addition node: a circle of radius 9 with a plus."""
    return (
        f'<circle cx="{x:g}" cy="{y:g}" r="9" fill="{PAPER}" stroke="{colour}" stroke-width="1.6"/>'
        f'<path d="M {x - 4.5:g} {y:g} L {x + 4.5:g} {y:g} M {x:g} {y - 4.5:g} L {x:g} {y + 4.5:g}"'
        f' fill="none" stroke="{colour}" stroke-width="1.6" stroke-linecap="round"/>'
    )


def document(width: float, height: float, shapes: Iterable[str], description: str) -> str:
    """The complete SVG file: a background, then the shapes in order. description: for screen readers."""
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}"'
        f' viewBox="0 0 {width:g} {height:g}" font-family="{FONT}" role="img">'
    )
    return "\n".join(
        (
            opening,
            f"<title>{escaped(description)}</title>",
            rectangle(0.6, 0.6, width - 1.2, height - 1.2, "paper", 12),
            *shapes,
            "</svg>\n",
        )
    )
