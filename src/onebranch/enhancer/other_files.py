"""Files besides pictures that a batch enhances, such as clips: what it must know of them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from onebranch.enhancer.names import Values
from onebranch.enhancer.options import Options


def _no_result(path: Path) -> str:
    raise AssertionError(f"'{path}' is no such file")


def _no_values(path: Path, options: Options) -> Values:
    raise AssertionError(f"'{path}' is no such file")


@dataclass(frozen=True)
class OtherFiles:
    """A kind of file besides pictures.

    suffixes: of these files, in lower case. result_suffix: the suffix of a file's result. check_target:
    raises OnebranchError if no such file can be written under the name. measure: the fields of a result's
    name that depend on the size. settings: text that differs if other settings would give other results.
    """

    suffixes: frozenset[str] = frozenset()
    result_suffix: Callable[[Path], str] = _no_result
    check_target: Callable[[Path], object] = _no_result
    measure: Callable[[Path, Options], Values] = _no_values
    settings: str = ""

    def include(self, path: Path) -> bool:
        """Whether the file is of this kind, by its name.

        >>> OtherFiles(frozenset((".mp4",))).include(Path("a.MP4"))
        True
        """
        return path.suffix.lower() in self.suffixes


PICTURES_ONLY = OtherFiles()
"""No other files."""
