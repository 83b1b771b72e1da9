"""Animations: a sequence of frames and their timing."""

from dataclasses import dataclass

from onebranch.errors import OnebranchError, counted_noun
from onebranch.images.picture import Picture


@dataclass(frozen=True, eq=False)
class Animation:
    """An animation, as complete (composited) frames of one size.

    delays: milliseconds per frame. loop: number of repetitions, 0 for endless. Raises OnebranchError if there
    is no frame, or if the numbers of frames and delays differ.
    """

    frames: tuple[Picture, ...]
    delays: tuple[int, ...]
    loop: int = 0

    def __post_init__(self) -> None:
        """Check the number of delays."""
        if not self.frames or len(self.frames) != len(self.delays):
            raise OnebranchError(
                f"{counted_noun(len(self.frames), 'frame')} and {counted_noun(len(self.delays), 'delay')}"
                " do not form an animation;"
                " it must have at least one frame, and one delay for each"
            )
