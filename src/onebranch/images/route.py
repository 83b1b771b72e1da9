"""How a picture's samples came from those of its file, and the way back."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Route:
    """The conversion that reading made. `Route()`: none, the samples are the file's own.

    name: in words, for people. depth: of the file's samples, to which writing returns.
    """

    name: str = ""
    depth: str = ""
