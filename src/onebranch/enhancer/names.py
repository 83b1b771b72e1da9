"""What results are called: a template such as "{stem}_x2{suffix}", and the suffix of their format."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from onebranch.errors import OnebranchError, nearest
from onebranch.images.formats import BY_SUFFIX, format_of_name

FIELDS = ("stem", "suffix", "scale", "model", "width", "height", "index", "parent")
"""What a template may name."""

MEASURED = frozenset(("scale", "model", "width", "height"))
"""The fields that need a look into the picture."""

NUMBERS = frozenset(("width", "height", "index"))

KEPT = frozenset(BY_SUFFIX) - {".gif"}
"""Suffixes that a result keeps; others become PNG, and GIF, with its 256 colours, if it stands still."""

LONGEST = 255
"""Bytes of a file's name that every usual file system takes."""

Values = Mapping[str, str | int]


@dataclass(frozen=True)
class Naming:
    """How results are called. OnebranchError at construction for what can be no name.

    template: of the whole name, None: the picture's. form: the suffix of every result, such as "png", None:
    as the picture's.
    """

    template: str | None = None
    form: str | None = None

    def __post_init__(self) -> None:
        """Check both."""
        if self.form is not None:
            suffix = _suffix_of(self.form)
            object.__setattr__(self, "form", suffix)
        if self.template is not None:
            self._check()

    @property
    def fields(self) -> frozenset[str]:
        """The fields that the template names."""
        if self.template is None:
            return frozenset()
        return frozenset(field for _, field, _, _ in _parsed(self.template) if field is not None)

    def _check(self) -> None:
        assert self.template is not None
        for _, field, spec, conversion in _parsed(self.template):
            if field is None:
                continue
            if field not in FIELDS:
                raise OnebranchError(f"unknown field '{{{field}}}' of a name; {nearest(field, FIELDS)}")
            padded = field in NUMBERS and re.fullmatch(r"0\d", spec or "")
            if conversion or (spec and not padded):
                raise OnebranchError(
                    f"'{self.template}': only numbers are padded, with zeros, such as {{index:04}}"
                )
        literal = "".join(text for text, *_ in _parsed(self.template))
        if "/" in literal or "\\" in literal or "\0" in literal:
            raise OnebranchError(f"'{self.template}' is no name: it leads into another folder")
        if "suffix" not in self.fields and Path(self.template).suffix.lower() not in BY_SUFFIX:
            raise OnebranchError(f"'{self.template}' ends with no picture's suffix; end it with {{suffix}}")
        if "suffix" not in self.fields and self.form is not None:
            self._check_form(format_of_name(Path(self.template)).name, BY_SUFFIX[self.form].name)

    def _check_form(self, named: str, asked: str) -> None:
        if named != asked:
            raise OnebranchError(f"'{self.template}' is {named}, not {asked}; end it with {{suffix}}")

    def suffix_of(self, source: Path, moves: bool) -> str:
        """The suffix of its result. moves: whether it is an animation."""
        if self.form is not None:
            return self.form
        suffix = source.suffix.lower()
        return source.suffix if suffix in KEPT or (suffix == ".gif" and moves) else ".png"

    def name(self, values: Values) -> str:
        """The result's name. OnebranchError if the values make none."""
        found = (self.template or "{stem}{suffix}").format_map(values)
        if any(sign in found for sign in "/\\\0") or found in ("", ".", ".."):
            raise OnebranchError(f"the result would be called '{found}', which is no file's name (--name)")
        return found


def too_long(name: str) -> bool:
    """Whether no file can be called so."""
    return len(name.encode("utf-8", "surrogateescape")) > LONGEST


def _parsed(template: str) -> list[tuple[str, str | None, str | None, str | None]]:
    from string import Formatter  # imported late: most results keep their pictures' names

    try:
        return list(Formatter().parse(template))
    except ValueError as error:
        raise OnebranchError(
            f"'{template}' is no template: {error}; fields look like {{stem}}, a brace is {{{{"
        ) from None


def _suffix_of(form: str) -> str:
    suffix = f".{form.lower().removeprefix('.')}"
    if suffix not in BY_SUFFIX:
        names = [known.removeprefix(".") for known in BY_SUFFIX]
        raise OnebranchError(f"unknown format '{form}'; {nearest(suffix.removeprefix('.'), names)}")
    return suffix
