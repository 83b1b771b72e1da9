"""The options of clips: encoding, the part that is enhanced, and what an interrupt leaves."""

import re
from dataclasses import dataclass
from typing import Literal, get_args

from onebranch.errors import OnebranchError, nearest
from onebranch.video.containers import CODECS

OnInterrupt = Literal["keep", "join", "discard"]

STREAM_KINDS = ("audio", "subtitles", "attachments", "cover", "chapters", "data")
"""The kinds of streams that can be left out, and what messages call them."""

X26X_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow", "placebo"),
)

ENCODER_PRESETS = {
    "h264": X26X_PRESETS,
    "h265": X26X_PRESETS,
    "av1": tuple(str(number) for number in range(14)),
    "vp9": tuple(str(number) for number in range(9)),
    "prores": (),
    "ffv1": (),
}
"""The presets of every codec, for AV1 and VP9 from slow to fast."""

DEFAULT_PRESETS = {"h264": "veryfast", "h265": "veryfast", "av1": "8", "vp9": "5"}

MAX_CRF = {"h264": 51, "h265": 51, "av1": 63, "vp9": 63}
"""The largest constant rate factor of the codecs that have one; 0 is the best quality."""

DEFAULT_CRF = {"h264": 18.0, "h265": 20.0, "av1": 28.0, "vp9": 28.0}


@dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """How clips are enhanced. Raises OnebranchError at construction for invalid options.

    codec: "h264", "h265", "av1", "vp9", "prores" or "ffv1"; None: by the container and the pixel format. crf:
    constant rate factor, 0 is the best quality. preset: the encoder's. deinterlace: make interlaced frames
    progressive. start, end: the part to enhance, in seconds from the clip's beginning. frames: enhance at
    most this many. preview: enhance this many seconds, and write them as a split screen beside the original.
    resume: continue an interrupted run. drop: kinds of streams to leave out, of `STREAM_KINDS`. on_interrupt:
    what Ctrl-C leaves: "keep" segments for resuming, "join" them into a playable file, or "discard" them.
    lock_seconds: how long to wait for another run that writes the same clip, before it is an error.
    encoder_threads: of an encoder, at most 16; None: by the cores of this machine; the bytes depend on them.

    >>> VideoOptions(codec="h265", crf=20).preset is None
    True
    """

    codec: str | None = None
    crf: float | None = None
    preset: str | None = None
    deinterlace: bool = False
    start: float | None = None
    end: float | None = None
    frames: int | None = None
    preview: float | None = None
    resume: bool = False
    on_interrupt: OnInterrupt = "keep"
    drop: tuple[str, ...] = ()
    lock_seconds: float = 0.0
    encoder_threads: int | None = None

    def __post_init__(self) -> None:
        """Check every value."""
        if self.codec is not None and self.codec not in CODECS:
            raise OnebranchError(f"unknown codec '{self.codec}'; {nearest(self.codec, CODECS)}")
        self._check_part()
        if self.on_interrupt not in get_args(OnInterrupt):
            raise OnebranchError(
                f"unknown action '{self.on_interrupt}'; valid: {', '.join(get_args(OnInterrupt))}"
            )
        for kind in self.drop:
            if kind not in STREAM_KINDS:
                raise OnebranchError(f"unknown kind of stream '{kind}'; {nearest(kind, STREAM_KINDS)}")
        if self.codec is not None:
            check_encoding(self.codec, self.crf, self.preset)

    def _check_part(self) -> None:
        if self.start is not None and self.start < 0:
            raise OnebranchError(
                f"the part of a clip must start at 0 or later, not at {self.start:g} seconds"
            )
        if self.end is not None and self.end <= (self.start or 0):
            raise OnebranchError(
                f"the part of a clip must end after its start, not at {self.end:g} seconds (--from, --to)"
            )
        if self.frames is not None and self.frames < 1:
            raise OnebranchError(f"frames must be at least 1, not {self.frames}")
        if self.preview is not None and self.preview <= 0:
            raise OnebranchError(f"a preview must be longer than 0 seconds, not {self.preview:g}")

    @property
    def is_part(self) -> bool:
        """Whether only a part of the clip is enhanced."""
        return not (self.start is None and self.end is None and self.frames is None and self.preview is None)


def check_encoding(codec: str, crf: float | None, preset: str | None) -> None:
    """Raise OnebranchError if the codec has no such quality or preset."""
    if crf is not None and codec not in MAX_CRF:
        raise OnebranchError(f"{codec} has no constant rate factor; omit --crf")
    if crf is not None and not 0 <= crf <= MAX_CRF[codec]:
        raise OnebranchError(f"crf must be 0 to {MAX_CRF[codec]} for {codec}, not {crf:g}")
    if preset is not None and preset not in ENCODER_PRESETS[codec]:
        valid = ENCODER_PRESETS[codec]
        rule = nearest(preset, valid) if valid else f"{codec} has none"
        raise OnebranchError(f"unknown preset '{preset}' of {codec}; {rule}")


def parse_time(text: str) -> float:
    """Seconds in a text such as "90", "1:30" or "0:01:30.5". Raises OnebranchError for any other text.

    >>> parse_time("1:30"), parse_time("0:01:30.5"), parse_time("90")
    (90.0, 90.5, 90.0)
    """
    if not re.fullmatch(r"(\d{1,4}:)?(\d{1,4}:)?\d{1,7}(\.\d{1,9})?", text):
        raise OnebranchError(
            f"'{text}' is not a time; write seconds or [hours:]minutes:seconds, such as 1:30"
        )
    seconds = 0.0
    for part in text.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds
