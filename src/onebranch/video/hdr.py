"""HDR10 side data: mastering display and content light level, read from frames and written for encoders."""

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av import VideoFrame

MASTERING_DISPLAY_FIELDS = 22
"""32-bit integers of FFmpeg's AVMasteringDisplayMetadata: ten fractions and two flags."""

CHROMATICITY_UNITS, LUMINANCE_UNITS = 50_000, 10_000
"""The units of SMPTE ST 2086: 0.00002 of a chromaticity coordinate, 0.0001 candelas per square metre."""


@dataclass(frozen=True)
class MasteringDisplay:
    """SMPTE ST 2086. red, green, blue, white: chromaticities (x, y). darkest, brightest: in cd/m²."""

    red: tuple[Fraction, Fraction]
    green: tuple[Fraction, Fraction]
    blue: tuple[Fraction, Fraction]
    white: tuple[Fraction, Fraction]
    darkest: Fraction
    brightest: Fraction


@dataclass(frozen=True)
class HdrMetadata:
    """What HDR10 states beside the colour tags; light_level: largest content and frame-average, in cd/m²."""

    display: MasteringDisplay | None = None
    light_level: tuple[int, int] | None = None

    def __bool__(self) -> bool:
        return self.display is not None or self.light_level is not None


def hdr_metadata(frame: "VideoFrame") -> HdrMetadata:
    """The HDR10 side data of a decoded frame; empty if it has none."""
    sides: Any = frame.side_data
    data = {side.type.name: bytes(side) for side in sides}
    display = data.get("MASTERING_DISPLAY_METADATA", b"")
    light = data.get("CONTENT_LIGHT_LEVEL", b"")
    return HdrMetadata(
        parse_mastering_display(display) if len(display) >= 4 * MASTERING_DISPLAY_FIELDS else None,
        struct.unpack_from("<2I", light) if len(light) >= 8 else None,
    )


def parse_mastering_display(content: bytes) -> MasteringDisplay | None:
    """FFmpeg's AVMasteringDisplayMetadata (88 bytes); None if it states nothing."""
    numbers = struct.unpack_from(f"<{MASTERING_DISPLAY_FIELDS}i", content)
    if not (numbers[20] and numbers[21]):
        return None
    values = [Fraction(numbers[i], numbers[i + 1] or 1) for i in range(0, 20, 2)]
    points = [(values[i], values[i + 1]) for i in range(0, 8, 2)]
    return MasteringDisplay(points[0], points[1], points[2], points[3], values[8], values[9])


def x265_parameters(hdr: HdrMetadata) -> list[str]:
    """The parameters of x265 that write the side data into the stream.

    >>> x265_parameters(HdrMetadata(light_level=(1000, 400)))
    ['hdr10=1', 'repeat-headers=1', 'max-cll=1000,400']
    """
    if not hdr:
        return []
    parameters = ["hdr10=1", "repeat-headers=1"]
    if display := hdr.display:
        points = "".join(
            f"{name}({','.join(str(round(value * CHROMATICITY_UNITS)) for value in point)})"
            for name, point in zip("GBR", (display.green, display.blue, display.red), strict=True)
        )
        white = ",".join(str(round(value * CHROMATICITY_UNITS)) for value in display.white)
        levels = f"{round(display.brightest * LUMINANCE_UNITS)},{round(display.darkest * LUMINANCE_UNITS)}"
        parameters.append(f"master-display={points}WP({white})L({levels})")
    if hdr.light_level:
        parameters.append(f"max-cll={hdr.light_level[0]},{hdr.light_level[1]}")
    return parameters


def svtav1_parameters(hdr: HdrMetadata) -> list[str]:
    """The parameters of SVT-AV1 that write the side data into the stream, in plain decimals."""
    if not hdr:
        return []
    parameters = ["enable-hdr=1"]
    if display := hdr.display:
        points = "".join(
            f"{name}({','.join(f'{float(value):.5f}' for value in point)})"
            for name, point in zip(
                ("G", "B", "R", "WP"),
                (display.green, display.blue, display.red, display.white),
                strict=True,
            )
        )
        parameters.append(
            f"mastering-display={points}L({float(display.brightest):.4f},{float(display.darkest):.4f})"
        )
    if hdr.light_level:
        parameters.append(f"content-light={hdr.light_level[0]},{hdr.light_level[1]}")
    return parameters
