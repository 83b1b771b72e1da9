"""The description of files besides pictures that a batch can enhance, such as clips."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from onebranch.enhancer.names import Values
from onebranch.enhancer.options import Options


def _no_result(path: Path) -> str:
    raise AssertionError(f"'{path}' is not a file of this kind")


def _no_values(path: Path, options: Options) -> Values:
    raise AssertionError(f"'{path}' is not a file of this kind")


@dataclass(frozen=True)
class OtherFiles:
    """A kind of files besides pictures.

    suffixes: their suffixes, in lower case. result_suffix: returns the suffix of a file's result.
    check_target: raises OnebranchError if no such file can be written under the name. measure: returns the
    template fields that depend on the size. settings: a text that represents all settings that affect
    results.
    """

    suffixes: frozenset[str] = frozenset()
    result_suffix: Callable[[Path], str] = _no_result
    check_target: Callable[[Path], object] = _no_result
    measure: Callable[[Path, Options], Values] = _no_values
    settings: str = ""

    def include(self, path: Path) -> bool:
        """True if the file is of this kind, by its suffix.

        >>> OtherFiles(frozenset((".mp4",))).include(Path("a.MP4"))
        True
        """
        return path.suffix.lower() in self.suffixes


PICTURES_ONLY = OtherFiles()
"""No other files."""
