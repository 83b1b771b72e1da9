"""The options of `onebranch enhance` for clips, and Y4M streams on standard input and output."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from onebranch.cli.enhance_streams import STANDARD_STREAM
from onebranch.cli.option_groups import option_group
from onebranch.errors import OnebranchError

if TYPE_CHECKING:
    from onebranch.enhancer.options import Options
    from onebranch.video.mixed_files import MixedFiles
    from onebranch.video.options import OnInterrupt, VideoOptions
    from onebranch.video.progress import ReportProgress

Y4M = "y4m"
"""The name of the format of uncompressed streams."""

DEFAULT_PREVIEW_SECONDS = 5.0
"""Default length of a preview, in seconds."""


@dataclass(frozen=True)
class VideoArguments:
    """How clips are enhanced; see `VideoOptions`."""

    codec: str | None
    crf: float | None
    preset: str | None
    deinterlace: bool
    start: str | None
    end: str | None
    frames: int | None
    preview: float | None
    drop: tuple[str, ...]
    on_interrupt: str

    def video_options(self, resume: bool) -> "VideoOptions":
        """These arguments as checked `VideoOptions`."""
        from onebranch.video.options import VideoOptions, parse_time

        return VideoOptions(
            codec=self.codec,
            crf=self.crf,
            preset=self.preset,
            deinterlace=self.deinterlace,
            start=None if self.start is None else parse_time(self.start),
            end=None if self.end is None else parse_time(self.end),
            frames=self.frames,
            preview=self.preview,
            drop=self.drop,
            resume=resume,
            on_interrupt=cast("OnInterrupt", self.on_interrupt),
        )

    def mixed_files(self, resume: bool, file_format: str | None, report: "ReportProgress") -> "MixedFiles":
        """What enhances pictures and clips. file_format: of results; that of clips if it is a container."""
        from onebranch.video.containers import CONTAINER_BY_SUFFIX
        from onebranch.video.mixed_files import MixedFiles

        suffix = "" if file_format is None else f".{file_format.lower().removeprefix('.')}"
        suffix = suffix if suffix in CONTAINER_BY_SUFFIX else ""
        return MixedFiles(self.video_options(resume), suffix, report)

    def pipe(self, paths: Sequence[str], options: "Options") -> None:
        """Enhance a Y4M stream from standard input, or a file, into a Y4M stream on standard output."""
        from onebranch.video.pipes import pipe_clip

        if len(paths) != 1:
            raise OnebranchError("a Y4M stream is made of one clip; name one file, or - for standard input")
        if sys.stdout.isatty():
            raise OnebranchError("standard output is a terminal; pipe it into a player, such as: | mpv -")
        source = sys.stdin.buffer if paths[0] == STANDARD_STREAM else Path(paths[0])
        pipe_clip(source, sys.stdout.buffer, options, self.video_options(resume=False), _print_device)


def _print_device(device: str) -> None:
    """Print the device on standard error, unless it is the CPU by default."""
    from onebranch.enhancer.device import CPU_TEXT

    if device != CPU_TEXT:
        click.echo(f"onebranch: on {device}", err=True)


def is_y4m_pipe(out: str, file_format: str | None) -> bool:
    """Whether the result is a Y4M stream on standard output."""
    return out == STANDARD_STREAM and file_format is not None and file_format.lower() in (Y4M, f".{Y4M}")


video_options = option_group(
    "clips",
    VideoArguments,
    click.option(
        "--codec",
        help="Codec of clips: h264, h265, av1, vp9, prores or ffv1 [default: by container and depth].",
    ),
    click.option(
        "--crf",
        type=float,
        help="Constant rate factor; 0 is the best quality [default: h264 18, h265 20, av1 and vp9 28].",
    ),
    click.option("--preset", help="Preset of the encoder [default: veryfast; av1 8, vp9 5]."),
    click.option("--deinterlace", is_flag=True, help="Make interlaced clips progressive, frame by frame."),
    click.option("--from", "start", help="Begin clips at this time: seconds or [hours:]minutes:seconds."),
    click.option("--to", "end", help="End clips before this time."),
    click.option("--frames", type=int, help="Enhance at most this many frames of a clip."),
    click.option(
        "--preview",
        type=float,
        is_flag=False,
        flag_value=DEFAULT_PREVIEW_SECONDS,
        help="Enhance only this many seconds of a clip (5 if none are given), and show them beside the"
        " original, enlarged bicubically, as a split screen.",
    ),
    click.option(
        "--drop",
        multiple=True,
        help="Leave out a kind of streams: audio, subtitles, attachments, cover, chapters or data.",
    ),
    click.option(
        "--on-interrupt",
        default="keep",
        show_default=True,
        help="What Ctrl-C leaves of a clip: keep (segments for --resume), join (a playable file) or discard.",
    ),
)
