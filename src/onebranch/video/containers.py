"""The containers of clips: their suffixes, and what each of them can hold. Tables; PyAV is not imported."""

from dataclasses import dataclass
from pathlib import Path

from onebranch.errors import OnebranchError, nearest

CODECS = ("h264", "h265", "av1", "vp9", "prores", "ffv1")
"""The video codecs that clips are encoded with, by their names on the command line."""


@dataclass(frozen=True)
class Container:
    """What a container can hold.

    muxer: FFmpeg's name. codecs: the video codecs, the preferred one first. text_subtitles: the codec that
    text subtitles are converted to when they cannot be copied; empty: the container has none. attachments,
    chapters, cover_art: whether it can hold them. aspect_codecs: the codecs of which it can hold a sample
    aspect ratio. alpha_codecs: those of which it can hold alpha.
    """

    name: str
    muxer: str
    suffixes: tuple[str, ...]
    codecs: tuple[str, ...]
    text_subtitles: str = ""
    attachments: bool = False
    chapters: bool = False
    cover_art: bool = False
    rotation: bool = True
    aspect_codecs: tuple[str, ...] = CODECS
    alpha_codecs: tuple[str, ...] = ()


BITSTREAM_ASPECT = ("h264", "h265")
"""Codecs whose own stream states the sample aspect ratio; Matroska files get none from FFmpeg's muxer."""

CONTAINERS = {
    "MP4": Container(
        *("MP4", "mp4", (".mp4", ".m4v"), ("h264", "h265", "av1", "vp9")),
        text_subtitles="mov_text",
        chapters=True,
        cover_art=True,
    ),
    "QuickTime": Container(
        *("QuickTime", "mov", (".mov",), ("h264", "h265", "prores")),
        text_subtitles="mov_text",
        chapters=True,
        alpha_codecs=("prores",),
    ),
    "Matroska": Container(
        *("Matroska", "matroska", (".mkv",), CODECS),
        text_subtitles="subrip",
        attachments=True,
        chapters=True,
        cover_art=True,
        aspect_codecs=BITSTREAM_ASPECT,
        alpha_codecs=("vp9", "prores", "ffv1"),
    ),
    "WebM": Container(
        *("WebM", "webm", (".webm",), ("vp9", "av1")),
        text_subtitles="webvtt",
        chapters=True,
        aspect_codecs=(),
        alpha_codecs=("vp9",),
    ),
    "MPEG-TS": Container(
        *("MPEG-TS", "mpegts", (".ts", ".m2ts", ".mts"), ("h264", "h265")),
        rotation=False,
        aspect_codecs=BITSTREAM_ASPECT,
    ),
}
"""The containers that are written, by name."""

CONTAINER_BY_SUFFIX = {suffix: each for each in CONTAINERS.values() for suffix in each.suffixes}
"""The containers that are written."""

READ_ONLY_CLIP_SUFFIXES = frozenset(
    (
        *(".avi", ".mpg", ".mpeg", ".m2v", ".vob", ".wmv", ".asf", ".flv", ".f4v", ".3gp", ".3g2", ".ogv"),
        *(".mxf", ".nut", ".dv", ".m1v", ".rm", ".rmvb", ".h264", ".h265", ".hevc", ".ivf", ".divx", ".y4m"),
    )
)
"""Suffixes of clips that are read but not written; their results become Matroska files."""

CLIP_SUFFIXES = frozenset(CONTAINER_BY_SUFFIX) | READ_ONLY_CLIP_SUFFIXES
"""Suffixes of the files that are treated as clips and not as pictures."""


def is_clip(path: Path) -> bool:
    """Whether the file's name is that of a clip.

    >>> is_clip(Path("a.MP4")), is_clip(Path("a.png"))
    (True, False)
    """
    return path.suffix.lower() in CLIP_SUFFIXES


def result_suffix(source: Path) -> str:
    """The suffix of a clip's result: the clip's own, or .mkv if that container is not written.

    >>> result_suffix(Path("a.mov")), result_suffix(Path("a.AVI"))
    ('.mov', '.mkv')
    """
    return source.suffix if source.suffix.lower() in CONTAINER_BY_SUFFIX else ".mkv"


def container_of_name(path: Path) -> Container:
    """The container to write under this name. Raises OnebranchError that names the nearest suffix.

    >>> container_of_name(Path("big.mkv")).name
    'Matroska'
    """
    suffix = path.suffix.lower()
    if suffix in CONTAINER_BY_SUFFIX:
        return CONTAINER_BY_SUFFIX[suffix]
    if suffix in READ_ONLY_CLIP_SUFFIXES:
        raise OnebranchError(f"cannot write '{path}': {suffix} is read but not written; write .mkv")
    hint = nearest(suffix, CONTAINER_BY_SUFFIX)
    raise OnebranchError(f"cannot write the clip '{path}': its suffix names no container; {hint}")


def containers_with(codec: str, alpha: bool = False) -> str:
    """The suffixes of the containers that hold a codec, with alpha if asked for, in words.

    >>> containers_with("prores")
    '.mov or .mkv'
    """
    suffixes = [
        each.suffixes[0]
        for each in CONTAINERS.values()
        if codec in (each.alpha_codecs if alpha else each.codecs)
    ]
    return " or ".join(suffixes)
