"""What enhancing preserves of a picture file, measured over modes, depths, profiles, rotations and formats.

A case names the input and the output. It is measured on files, written here without code of the package,
enhanced, decoded by independent decoders, reduced again and compared in CIE Lab by the formulas of
`colour_profiles`. `scripts/picture_tables.py` puts the figures into `docs/reference/pictures.md`.
"""

import struct
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from colour_profiles import GREY, SPACES, delta_e, lab_of_grey, lab_of_rgb, profile
from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.options import Options
from onebranch.enhancer.single_file import FileOptions, enhance_file
from onebranch.images.encoders.encoding import Encoding
from onebranch.images.libvips import pyvips

SUFFIX = {
    "PNG": ".png",
    "JPEG": ".jpg",
    "WebP": ".webp",
    "TIFF": ".tif",
    "AVIF": ".avif",
    "GIF": ".gif",
    "BMP": ".bmp",
    "PPM": ".ppm",
}
WHITE = {"uint8": 255, "uint16": 65535, "float32": 1}
TYPES = {"uint8": "uchar", "uint16": "ushort", "float32": "float"}

DEPTHS = {"PNG": ("uint8", "uint16"), "TIFF": tuple(WHITE), "PPM": ("uint8", "uint16")}
"""Of the formats that have more than 8 bits."""

TRANSPARENT = ("PNG", "WebP", "TIFF", "AVIF", "GIF")
PROFILED = ("PNG", "JPEG", "WebP", "TIFF", "AVIF")
COLOURED = ("WebP", "AVIF", "GIF")
"""Formats whose grey is three equal channels."""

LIMIT = 1.0
"""Largest mean Delta E 2000: a hardly visible difference."""

LOSSY = 1.5
"""The same limit for encoders that lose more: lossy WebP and AVIF, the 256 colours of a GIF,
and JPEG where a palette made steps."""

PRESS = 1.6
"""The same limit for CMYK: converting by the profile from ink to colour and back alone costs 1.4."""


@dataclass(frozen=True)
class Case:
    """A file that goes in, and the format that comes out; table, row, column: where the page shows it.

    mode: grey, RGB, palette, 1-bit, CMYK or Lab. profile: a name of `colour_profiles`, or "".
    """

    table: str
    row: str
    column: str
    source: str = "PNG"
    target: str = "PNG"
    mode: str = "RGB"
    depth: str = "uint8"
    alpha: bool = False
    profile: str = ""
    orientation: int = 1
    lossless: bool = False

    def __str__(self) -> str:
        """The name of the case in test reports."""
        return f"{self.table}-{self.row}-{self.column}"

    @property
    def limit(self) -> float:
        """The largest difference of colours, on average."""
        if self.kept_mode == "CMYK":
            return PRESS
        grey = self.shown_mode == "grey"
        steps = self.target == "JPEG" and (self.mode == "palette" or self.source == "GIF")
        lossy = self.target in COLOURED and not self.lossless and not grey
        return LOSSY if steps or lossy else LIMIT

    @property
    def shown_mode(self) -> str:
        """The mode of what the file shows."""
        return {"palette": "RGB", "1-bit": "grey"}.get(self.mode, self.mode)

    @property
    def kept_mode(self) -> str:
        """The mode that the result must have."""
        shown = self.shown_mode
        if shown == "Lab" and self.target != "TIFF":
            shown = "RGB"
        if shown == "CMYK" and self.target not in ("TIFF", "JPEG"):
            shown = "RGB"
        return "RGB" if self.target in COLOURED else shown

    @property
    def kept_depth(self) -> str:
        """The depth that the result must have: the same, or the deepest there is."""
        depths = DEPTHS.get(self.target, ("uint8",))
        return self.depth if self.depth in depths else depths[-1]

    @property
    def kept_profile(self) -> str:
        """The profile that the result must carry."""
        kept = self.target in PROFILED and self.kept_mode == self.shown_mode
        return self.profile if kept else ""


@dataclass(frozen=True)
class Decoded:
    """A file as others decode it: samples (H, W, bands), white 1 (Lab: as it is), upright or not yet."""

    samples: np.ndarray
    mode: str
    depth: str
    alpha: bool
    icc: bytes | None
    orientation: int

    @property
    def colours(self) -> np.ndarray:
        return self.samples[..., :-1] if self.alpha else self.samples

    @property
    def opacity(self) -> np.ndarray:
        """(H, W)."""
        return self.samples[..., -1] if self.alpha else np.ones(self.samples.shape[:2])


@dataclass(frozen=True)
class Measured:
    """What went in (upright), what came out, and how far apart their colours and opacities are, on average.

    difference: Delta E 2000 of the result, reduced, against the input, by opacity. alpha: of opacities.
    """

    before: Decoded
    after: Decoded
    difference: float
    alpha: float
    notes: tuple[str, ...]


ENHANCER = Enhancer(Options(model="restore-luma-x2", threads=1))
"""Keeps colours as they are, so that what differs is the way through the files."""


def measure(case: Case, folder: Path) -> Measured:
    """Enhance the case's file in the folder."""
    source, target = folder / f"in{SUFFIX[case.source]}", folder / f"out{SUFFIX[case.target]}"
    write_source(case, source)
    encoding = Encoding(compression="none", lossless=case.lossless)  # the decoder of these tests needs it
    enhanced = enhance_file(source, target, ENHANCER, FileOptions(encoding))
    before, after = turned(decoded(source)), decoded(target)
    height, width = before.samples.shape[:2]
    weight = after.opacity[..., None]
    boxes = (height, 2, width, 2, -1)
    opacity = weight.reshape(boxes).mean(axis=(1, 3))
    colours = (after.colours * weight).reshape(boxes).mean(axis=(1, 3)) / np.maximum(opacity, 1e-9)
    clipped = bool(case.profile or case.mode in ("CMYK", "Lab")) and not after.icc and after.mode != "Lab"
    expected = lab(before.colours, before.mode, case.profile, clipped)
    actual = lab(colours, after.mode, case.kept_profile)
    seen = np.minimum(before.opacity, opacity[..., 0])
    differences = delta_e(expected, actual)
    return Measured(
        before,
        after,
        float((differences * seen).sum() / seen.sum()),
        float(np.abs(opacity[..., 0] - before.opacity).mean()),
        enhanced.preview.notes,
    )


def lab(colours: np.ndarray, mode: str, name: str, clipped: bool = False) -> np.ndarray:
    """CIE Lab of decoded colours. clipped: to what sRGB can hold."""
    if mode == "RGB":
        return lab_of_rgb(colours, name if name in SPACES else "sRGB", clipped)
    if mode == "grey":
        return lab_of_grey(colours, name)
    converted = colours if mode == "Lab" else lab_of_cmyk(colours)
    return in_srgb(converted) if clipped else converted


def in_srgb(values: np.ndarray) -> np.ndarray:
    """Lab clipped to what sRGB can hold."""
    l, a, b = np.moveaxis(values, -1, 0)
    f = np.stack([(l + 16) / 116 + a / 500, (l + 16) / 116, (l + 16) / 116 - b / 200], axis=-1)
    ratio = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
    matrix = SPACES["sRGB"].matrix
    light = np.clip(ratio * np.array([0.9642, 1.0, 0.8249]) @ np.linalg.inv(matrix).T, 0, 1)
    encoded = np.where(light > 0.0031308, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055, 12.92 * light)
    return lab_of_rgb(encoded, "sRGB")


def lab_of_cmyk(colours: np.ndarray) -> np.ndarray:
    """By Little CMS, through the press profile that libvips has."""
    ink = np.ascontiguousarray(np.rint(colours * 65535).clip(0, 65535).astype(np.uint16))
    image = pyvips.Image.new_from_memory(ink.tobytes(), ink.shape[1], ink.shape[0], 4, "ushort")
    image = image.copy(interpretation="cmyk")
    return np.asarray(image.icc_import(input_profile="cmyk", pcs="lab", intent="relative").numpy(), float)


def photograph() -> np.ndarray:
    """(40, 48, 3) in [0, 1]: a piece of a photograph of flowers."""
    with Image.open(Path(__file__).parent / "data" / "flowers.png") as image:
        return np.asarray(image.convert("RGB").crop((20, 30, 68, 70)), np.float64) / 255


@cache
def measured(case: Case) -> Measured:
    """The case measured in a folder of its own, once."""
    with tempfile.TemporaryDirectory() as folder:
        return measure(case, Path(folder))


def tables() -> dict[str, str]:
    """The matrix as Markdown: differences of colours; in brackets what becomes something else."""
    return {name: _table(name) for name in dict.fromkeys(case.table for case in cases())}


def _table(name: str) -> str:
    by_cell = {(case.row, case.column): case for case in cases() if case.table == name}
    rows, columns = (list(dict.fromkeys(key[i] for key in by_cell)) for i in (0, 1))
    lines = [f"| {HEADS[name]} | {' | '.join(columns)} |", f"| --- |{' ---: |' * len(columns)}"]
    for row in rows:
        cells = [_cell(by_cell[row, column]) if (row, column) in by_cell else "" for column in columns]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


HEADS = {
    "formats": "from \\ to",
    "depths": "picture",
    "profiles": "profile",
    "no profiles": "profile",
    "modes": "picture",
    "turns": "orientation",
}
"""What the first column of each table is."""


def _cell(case: Case) -> str:
    changes = []
    if case.kept_mode != case.shown_mode:
        changes.append(case.kept_mode)
    if case.kept_depth != case.depth:
        changes.append(NAMES[case.kept_depth])
    suffix = f" ({', '.join(changes)})" if changes else ""
    return f"{measured(case).difference:.1f}{suffix}"


def write_source(case: Case, path: Path) -> None:
    """The file that goes in, by libvips or Pillow."""
    colours = photograph()
    if case.mode == "grey":
        colours = colours.mean(axis=2, keepdims=True)
    if case.mode == "1-bit":
        y, x = np.mgrid[:40, :48]
        bits = (x - 24) ** 2 + (y - 20) ** 2 > 225
        return Image.fromarray(bits).save(path)
    if case.mode == "palette" or case.source == "GIF":
        return _write_palette(case, colours, path)
    if case.source in ("BMP", "PPM"):
        samples = np.rint(colours * WHITE[case.depth]).astype(case.depth).squeeze()
        cv2.imwrite(str(path), samples[..., ::-1] if samples.ndim == 3 else samples)
        return None
    image = _as_image(case, colours)
    options: dict[str, Any] = {
        "TIFF": {"compression": "none"},
        "JPEG": {"Q": 95, "subsample_mode": "off"},
        "WebP": {"lossless": True, "exact": True},
        "AVIF": {"lossless": True, "bitdepth": 8, "compression": "av1"},
    }.get(case.source, {})
    saver = {"AVIF": "heif"}.get(case.source, case.source.lower())
    getattr(image, f"{saver}save")(str(path), **options)
    return None


def _write_palette(case: Case, colours: np.ndarray, path: Path) -> None:
    pixels = np.rint(np.broadcast_to(colours, (40, 48, 3)) * 255).astype(np.uint8)
    image = Image.fromarray(pixels).quantize(255, dither=Image.Dither.NONE)
    options = {"icc_profile": profile(case.profile)} if case.profile else {}
    if case.alpha:
        hole = np.asarray(image).copy()
        hole[_opacity() < 0.5] = 255
        again = Image.fromarray(hole)
        again.putpalette((image.getpalette() + [0] * 768)[:768])
        image, options = again, {**options, "transparency": 255}
    image.save(path, **options)


def _as_image(case: Case, colours: np.ndarray) -> Any:
    samples = colours
    if case.alpha:
        opacity = _opacity()[..., None]
        hidden = np.array([1.0, 0, 1])[: colours.shape[2]]  # colour that must not bleed into the edges
        samples = np.concatenate([np.where(opacity > 0, colours, hidden), opacity], axis=2)
    image = _to_image(samples, case.depth)
    if case.mode in ("CMYK", "Lab"):
        image = _in_ink_or_lab(case, image)
    elif case.profile:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile(case.profile))
    if case.orientation > 1:
        image.set_type(pyvips.GValue.gint_type, "orientation", case.orientation)
    return image


def _in_ink_or_lab(case: Case, image: Any) -> Any:
    deep = _to_image(photograph(), "uint16")
    if case.mode == "CMYK":
        ink = deep.icc_transform("cmyk", input_profile="srgb", depth=8 if case.depth == "uint8" else 16)
        if not case.profile:
            ink.remove("icc-profile-data")
        return ink
    values = deep.colourspace("lab")
    if case.alpha:
        values = values.bandjoin(image[3] / 65535 * 255)
    return values.colourspace({"uint8": "labq", "uint16": "labs", "float32": "lab"}[case.depth])


def _to_image(samples: np.ndarray, depth: str) -> Any:
    values = samples.astype(np.float32) if depth == "float32" else np.rint(samples * WHITE[depth])
    values = np.ascontiguousarray(values.astype(depth))
    height, width, bands = values.shape
    image = pyvips.Image.new_from_memory(values.tobytes(), width, height, bands, TYPES[depth])
    spaces = ("grey16", "rgb16") if depth == "uint16" else ("b-w", "srgb")
    return image.copy(interpretation=spaces[bands > 2])


def _opacity() -> np.ndarray:
    """A disc with a soft edge, (40, 48)."""
    y, x = np.mgrid[:40, :48]
    return np.clip((18 - np.hypot(x - 24, y - 20)) / 4 + 0.5, 0, 1)


def decoded(path: Path) -> Decoded:
    """A file by Pillow, OpenCV or a TIFF reader of a few lines."""
    if path.suffix == ".tif":
        return decoded_tiff(path.read_bytes())
    with Image.open(path) as image:
        icc, orientation = image.info.get("icc_profile"), image.getexif().get(0x0112, 1)
        content = path.read_bytes()
        deep = (path.suffix == ".png" and content[24] == 16) or (
            path.suffix == ".ppm" and b"65535" in content[:20]
        )
        if deep:
            return _decoded_deep(path, content, icc, orientation)
        if image.mode in ("P", "1"):
            transparent = "transparency" in image.info
            image = image.convert("L" if image.mode == "1" else "RGBA" if transparent else "RGB")
        mode = {"L": "grey", "LA": "grey", "RGB": "RGB", "RGBA": "RGB", "CMYK": "CMYK"}[image.mode]
        samples = np.atleast_3d(np.asarray(image, np.float64)) / 255
        alpha = image.mode[-1] == "A"
        if path.suffix == ".gif" and alpha and samples[..., -1].min() == 1:
            samples, alpha = samples[..., :-1], False  # a GIF may name a transparent colour and not use it
        return Decoded(samples, mode, "uint8", alpha, icc, orientation)


def _decoded_deep(path: Path, content: bytes, icc: bytes | None, orientation: int) -> Decoded:
    samples = np.atleast_3d(cv2.imread(str(path), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION))
    assert samples.dtype == np.uint16
    alpha = samples.shape[2] == 4
    samples = np.concatenate([samples[..., :3][..., ::-1], samples[..., 3:]], axis=2)
    grey = content[25] in (0, 4) if path.suffix == ".png" else content[1:2] == b"5"
    if grey:
        samples = samples[..., [0, -1]] if alpha else samples[..., :1]
    return Decoded(samples / 65535, "grey" if grey else "RGB", "uint16", alpha, icc, orientation)


def decoded_tiff(content: bytes) -> Decoded:
    """A classic TIFF that is not compressed, in the machine's order of bytes (TIFF 6.0)."""
    assert content[:4] == b"II*\0"
    tags = tiff_tags(content)
    width, height, bands = tags[256][0], tags[257][0], tags.get(277, (1,))[0]
    assert tags.get(259, (1,))[0] == 1
    assert tags.get(284, (1,))[0] == 1
    kind = {1: "u", 2: "i", 3: "f"}[tags.get(339, (1,))[0]] + str(tags[258][0] // 8)
    parts = [content[at : at + size] for at, size in zip(tags[273], tags[279], strict=True)]
    samples = np.frombuffer(b"".join(parts), f"<{kind}").reshape(height, width, bands)
    mode = {0: "grey", 1: "grey", 2: "RGB", 5: "CMYK", 8: "Lab"}[tags[262][0]]
    alpha = 338 in tags
    depth = {"1": "uint8", "2": "uint16", "4": "float32"}[kind[1]]
    values = samples / WHITE[depth]
    if mode == "Lab":
        signed = samples.astype(f"i{kind[1]}") if kind[1] != "4" else samples
        step = {"uint8": 1, "uint16": 256, "float32": 1}[depth]
        positive = samples.view(f"u{kind[1]}") / WHITE[depth] * 100  # for every sample format
        lightness = (samples if depth == "float32" else positive)[..., :1]
        values = np.concatenate([lightness, signed[..., 1:3] / step, values[..., 3:]], axis=2)
    icc = bytes(tags[34675]) if 34675 in tags else None
    return Decoded(values.astype(np.float64), mode, depth, alpha, icc, tags.get(274, (1,))[0])


def tiff_tags(content: bytes) -> dict[int, tuple[int, ...]]:
    """The values of the first directory's whole numbers and bytes."""
    (first,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, first)
    tags = {}
    for offset in range(first + 2, first + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from("<HHI", content, offset)
        letter = {1: "B", 3: "H", 4: "I", 7: "B"}.get(kind)
        if letter is None:
            continue
        layout = f"<{number}{letter}"
        at = offset + 8 if struct.calcsize(layout) <= 4 else struct.unpack_from("<I", content, offset + 8)[0]
        tags[tag] = struct.unpack_from(layout, content, at)
    return tags


def turned(picture: Decoded) -> Decoded:
    """The picture, upright by its orientation."""
    a = picture.samples
    upright = {
        1: a,
        2: np.fliplr(a),
        3: np.rot90(a, 2),
        4: np.flipud(a),
        5: np.transpose(a, (1, 0, 2)),
        6: np.rot90(a, -1),
        7: np.rot90(np.transpose(a, (1, 0, 2)), 2),
        8: np.rot90(a, 1),
    }[picture.orientation]
    return Decoded(upright, picture.mode, picture.depth, picture.alpha, picture.icc, 1)


def cases() -> list[Case]:
    """The matrix."""
    return [*_formats(), *_depths(), *_profiles(), *_without_profiles(), *_modes(), *_turns()]


def _formats() -> list[Case]:
    return [Case("formats", source, target, source, target) for source in SUFFIX for target in SUFFIX]


NAMES = {"uint8": "8 bits", "uint16": "16 bits", "float32": "32-bit float"}


def _depths() -> list[Case]:
    matrix = []
    for mode in ("grey", "RGB"):
        for depth in WHITE:
            for alpha in (False, True):
                row = f"{mode}, {NAMES[depth]}{', transparent' if alpha else ''}"
                source = "TIFF" if depth == "float32" else "PNG"
                targets = [name for name in SUFFIX if name in TRANSPARENT or not alpha]
                matrix += [
                    Case("depths", row, target, source, target, mode, depth, alpha) for target in targets
                ]
    return matrix


RGB_COLUMNS = {
    "PNG 8": ("PNG", "uint8", False),
    "PNG 16": ("PNG", "uint16", False),
    "PNG 8, transparent": ("PNG", "uint8", True),
    "JPEG": ("JPEG", "uint8", False),
    "WebP": ("WebP", "uint8", False),
    "WebP lossless": ("WebP", "uint8", False),
    "AVIF": ("AVIF", "uint8", False),
    "AVIF lossless": ("AVIF", "uint8", False),
    "TIFF 16": ("TIFF", "uint16", False),
    "TIFF float": ("TIFF", "float32", False),
}
"""Format in and out, depth, alpha."""


def _profiles() -> list[Case]:
    matrix = []
    for name in (*SPACES, *GREY):
        mode = "grey" if name in GREY else "RGB"
        for column, (file_format, depth, alpha) in RGB_COLUMNS.items():
            source = (
                "PNG" if mode == "grey" and file_format in COLOURED else file_format
            )  # because the format has no grey
            lossless = column.endswith("lossless")
            matrix.append(
                Case(
                    "profiles", name, column, source, file_format, mode, depth, alpha, name, lossless=lossless
                )
            )
    return matrix


UNPROFILED = {
    "PPM": ("PPM", "uint16", False),
    "BMP": ("BMP", "uint8", False),
    "GIF": ("GIF", "uint8", False),
    "GIF, transparent": ("GIF", "uint8", True),
}
"""Format out, depth, alpha."""


def _without_profiles() -> list[Case]:
    return [
        Case(
            "no profiles", name, column, "PNG", target, "grey" if name in GREY else "RGB", depth, alpha, name
        )
        for name in (*SPACES, *GREY)
        for column, (target, depth, alpha) in UNPROFILED.items()
    ]


MODES = (
    ("palette", "PNG", "palette", ("uint8",), False, ""),
    ("palette, transparent", "PNG", "palette", ("uint8",), True, ""),
    ("1-bit", "PNG", "1-bit", ("uint8",), False, ""),
    ("CMYK JPEG", "JPEG", "CMYK", ("uint8",), False, ""),
    ("CMYK JPEG with profile", "JPEG", "CMYK", ("uint8",), False, "cmyk"),
    ("CMYK TIFF with profile", "TIFF", "CMYK", ("uint8", "uint16"), False, "cmyk"),
    ("Lab TIFF", "TIFF", "Lab", tuple(WHITE), False, ""),
)
"""Row, format in, mode, depths, alpha, profile."""


def _modes() -> list[Case]:
    return [
        Case(
            "modes",
            f"{row}, {NAMES[depth]}" if len(depths) > 1 else row,
            target,
            source,
            target,
            mode,
            depth,
            alpha,
            name,
        )
        for row, source, mode, depths, alpha, name in MODES
        for depth in depths
        for target in ("PNG", "JPEG", "TIFF", "WebP")
        if not alpha or target in TRANSPARENT
    ]


def _turns() -> list[Case]:
    columns = (
        ("PNG 16, Display P3", "PNG", "uint16", "Display P3", False),
        ("PNG 8, transparent", "PNG", "uint8", "", True),
        ("JPEG", "JPEG", "uint8", "", False),
        ("WebP", "WebP", "uint8", "", False),
        ("TIFF float, linear", "TIFF", "float32", "linear", False),
    )
    return [
        Case("turns", str(turn), column, file_format, file_format, "RGB", depth, alpha, name, turn)
        for turn in range(1, 9)
        for column, file_format, depth, name, alpha in columns
    ]
