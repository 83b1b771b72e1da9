"""The one exception class of the package, and the hint that names the nearest valid word.

Everything a user can cause is raised as `OnebranchError` with one clear line: what is wrong, the value, the
rule and the way out. The command line prints that line and exits with code 2; other exceptions are bugs.
"""

import difflib
from collections.abc import Iterable


class OnebranchError(Exception):
    """A mistake that the user can correct; its text is one line, written for the user.

    >>> str(OnebranchError("unknown key 'a\\nb'"))
    "unknown key 'a\\\\nb'"
    """

    def __init__(self, text: str) -> None:
        """Store the text; characters that are not printable (names in files may hold any) are escaped."""
        super().__init__(printable(text))


def printable(text: str) -> str:
    """The text on one line, with characters that are not printable escaped.

    >>> print(printable("tab\\t.png"))
    tab\\t.png
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def counted_noun(count: int, noun: str) -> str:
    """A number with its noun, in the plural unless the number is 1.

    >>> counted_noun(1, "picture"), counted_noun(1200, "picture")
    ('1 picture', '1,200 pictures')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def nearest(word: str, valid: Iterable[str]) -> str:
    """A hint for an unknown word: the nearest valid one, else all of them.

    >>> nearest("relux", ["relu", "silu"])
    "did you mean 'relu'?"
    >>> nearest("tanh", ["relu", "silu"])
    'valid: relu, silu'
    """
    words = list(valid)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else f"valid: {', '.join(words)}"
