"""Names of results, from a template such as "{stem}_x2{suffix}" and the format of the result."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from onebranch.errors import OnebranchError, nearest
from onebranch.images.formats import FORMAT_BY_SUFFIX, format_of_name

FIELDS = ("stem", "suffix", "scale", "model", "width", "height", "index", "parent")
"""The fields that a template can have."""

MEASURED = frozenset(("scale", "model", "width", "height"))
"""The fields that depend on the picture's size."""

NUMBERS = frozenset(("width", "height", "index"))
"""The numeric fields, which can be padded with zeros."""

KEPT_SUFFIXES = frozenset(FORMAT_BY_SUFFIX) - {".gif"}
"""Suffixes that results keep. All others become .png, and so does .gif (256 colours) unless animated."""

MAX_FILENAME_BYTES = 255
"""Length of a file name, in bytes, that every common file system accepts."""

Values = Mapping[str, str | int]
"""Values of a template's fields."""


@dataclass(frozen=True)
class Naming:
    """Names of results. Raises OnebranchError at construction for an invalid template or format.

    template: template of the name, such as "{stem}_x2{suffix}"; None keeps the picture's name. file_format:
    the format of every result, such as "png"; None keeps the picture's format.

    >>> Naming("{stem}_{width}{suffix}").name({"stem": "a", "width": 640, "suffix": ".png"})
    'a_640.png'
    """

    template: str | None = None
    file_format: str | None = None

    def __post_init__(self) -> None:
        """Check the format and the template, and that they do not contradict each other."""
        if self.file_format is not None:
            object.__setattr__(self, "file_format", _suffix_of(self.file_format))
        if self.template is not None:
            for _, field, spec, conversion in _parsed(self.template):
                _check_field(self.template, field, spec, conversion)
            self._check_text(self.template)
            if "suffix" not in self.fields:
                self._check_own_suffix(self.template)

    @property
    def fields(self) -> frozenset[str]:
        """The fields of the template."""
        if self.template is None:
            return frozenset()
        return frozenset(field for _, field, _, _ in _parsed(self.template) if field is not None)

    def _check_text(self, template: str) -> None:
        text = "".join(text for text, *_ in _parsed(template))
        if any(character in text for character in "/\\\0"):
            raise OnebranchError(f"'{template}' is not a file name: it leads into another folder")

    def _check_own_suffix(self, template: str) -> None:
        """Check the suffix of a template that has no field {suffix}."""
        suffix = Path(template).suffix.lower()
        if suffix not in FORMAT_BY_SUFFIX:
            raise OnebranchError(f"'{template}' has no suffix of a picture format; end it with {{suffix}}")
        if self.file_format is None:
            return
        named, requested = format_of_name(Path(template)).name, FORMAT_BY_SUFFIX[self.file_format].name
        if named != requested:
            raise OnebranchError(f"'{template}' is {named}, not {requested}; end it with {{suffix}}")

    def suffix_of(self, source: Path, animated: bool) -> str:
        """The suffix of a picture's result. animated: True if the picture is an animation."""
        if self.file_format is not None:
            return self.file_format
        suffix = source.suffix.lower()
        return source.suffix if suffix in KEPT_SUFFIXES or (suffix == ".gif" and animated) else ".png"

    def name(self, values: Values) -> str:
        """The result's name. Raises OnebranchError if it is not a valid file name."""
        name = (self.template or "{stem}{suffix}").format_map(values)
        if any(character in name for character in "/\\\0") or name in ("", ".", ".."):
            raise OnebranchError(f"the result would be named '{name}', which is not a file name (--name)")
        return name


def _check_field(template: str, field: str | None, spec: str | None, conversion: str | None) -> None:
    """Raise OnebranchError for an unknown field, or for a format that is not zero padding of a number."""
    if field is None:
        return
    if field not in FIELDS:
        raise OnebranchError(f"unknown field '{{{field}}}' of a name; {nearest(field, FIELDS)}")
    padded = field in NUMBERS and re.fullmatch(r"0\d", spec or "")
    if conversion or (spec and not padded):
        raise OnebranchError(f"'{template}': only numbers can be padded, with zeros, such as {{index:04}}")


def too_long(name: str) -> bool:
    """True if the name is longer than `MAX_FILENAME_BYTES`."""
    return len(name.encode("utf-8", "surrogateescape")) > MAX_FILENAME_BYTES


def _parsed(template: str) -> Iterator[tuple[str, str | None, str | None, str | None]]:
    """(text, field, format, conversion) of every part of the template."""
    from string import Formatter  # imported late: most results keep the names of their pictures

    try:
        yield from list(Formatter().parse(template))
    except ValueError as error:
        raise OnebranchError(
            f"'{template}' is not a valid template: {error}; write fields like {{stem}}, and a brace as {{{{"
        ) from None


def _suffix_of(file_format: str) -> str:
    """The suffix, with its dot, of a format such as "png" or ".PNG"."""
    suffix = f".{file_format.lower().removeprefix('.')}"
    if suffix not in FORMAT_BY_SUFFIX:
        names = [known.removeprefix(".") for known in FORMAT_BY_SUFFIX]
        raise OnebranchError(f"unknown format '{file_format}'; {nearest(suffix.removeprefix('.'), names)}")
    return suffix
