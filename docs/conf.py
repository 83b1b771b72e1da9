"""Configuration of the documentation site; `make docs` builds it, and a warning fails the build.

The Python reference is made from `onebranch.__all__` and its docstrings, the command reference from the click
commands, so neither can name what the code does not have.

Why Sphinx, MyST and furo (November 2026): all three are maintained, build the reference from the imported
code, and turn a broken link into an error; CPython, NumPy and pip use them. MkDocs 1.x has had no release
since August 2024, and its theme Material is in maintenance mode. ProperDocs, a fork of MkDocs, depends on
those themes and plugins. Zensical, Material's successor, has no stable release and calls its API references
preliminary. Pages are plain Markdown, so another generator remains possible.
"""

import inspect
import re

import click
from sphinx.application import Sphinx

import onebranch
from onebranch.cli import COMMANDS
from onebranch.cli import onebranch as command_line

project = "onebranch"
author = "the onebranch developers"
version = release = onebranch.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
myst_heading_anchors = 3
exclude_patterns = ["README.md"]

html_theme = "furo"
html_title = f"onebranch {release}"
html_copy_source = False
html_show_sourcelink = False
copybutton_exclude = ".linenos, .gp, .go"

default_role = "code"  # `name` in a docstring
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80

API_MARKER = "<!-- every public name -->"
CLI_MARKER = "<!-- every command -->"


def python_reference() -> str:
    """One autodoc directive for each public name: functions first, then classes, both by name."""
    functions, classes = [], []
    for name in sorted(onebranch.__all__, key=str.lower):
        value = getattr(onebranch, name)
        if not inspect.isclass(value):
            functions.append(f".. autofunction:: onebranch.{name}\n")
        elif issubclass(value, Exception):
            classes.append(f".. autoexception:: onebranch.{name}\n")
        else:
            classes.append(f".. autoclass:: onebranch.{name}\n   :members:\n")
    return "\n".join(
        f"## {title}\n\n```{{eval-rst}}\n{chr(10).join(entries)}```\n"
        for title, entries in (("Functions", functions), ("Classes", classes))
    )


def command_reference() -> str:
    """One section for each command: its usage line, its description and a table of its options."""
    with click.Context(command_line, info_name="onebranch") as parent:
        return "\n".join(_command_section(parent, name) for name in COMMANDS)


def _command_section(parent: click.Context, name: str) -> str:
    command = command_line.get_command(parent, name)
    assert command is not None
    with click.Context(command, info_name=name, parent=parent) as context:
        usage = command.get_usage(context).removeprefix("Usage: ")
        rows = [row for option in command.get_params(context) if (row := option.get_help_record(context))]
    description = inspect.cleandoc(command.help or "").replace("\b\n", "")
    table = "\n".join(f"| {_cell(f'`{option}`')} | {_cell(text)} |" for option, text in rows)
    return (
        f"## onebranch {name}\n\n```text\n{usage}\n```\n\n{_escape(description)}\n\n"
        f"| option | meaning |\n| --- | --- |\n{table}\n"
    )


def _cell(text: str) -> str:
    """Text that may stand in a cell of a Markdown table."""
    return (text if text.startswith("`") else _escape(text)).replace("|", "\\|").replace("\n", " ")


def _escape(text: str) -> str:
    """Text whose Markdown characters are escaped; backticks keep their meaning."""
    pieces = text.split("`")
    for index in range(0, len(pieces), 2):
        for character in "\\*_[]<>{}$":
            pieces[index] = pieces[index].replace(character, f"\\{character}")
    return "`".join(pieces)


def insert_reference(app: Sphinx, name: str, source: list[str]) -> None:
    """Replace the markers of the two generated pages by what the code says."""
    if API_MARKER in source[0]:
        source[0] = source[0].replace(API_MARKER, python_reference())
    if CLI_MARKER in source[0]:
        source[0] = source[0].replace(CLI_MARKER, command_reference())


def indent_bullets(
    app: Sphinx, kind: str, name: str, value: object, options: object, lines: list[str]
) -> None:
    """Indent the continuation lines of a docstring's bullets, as reStructuredText wants them."""
    in_bullet = False
    for index, line in enumerate(lines):
        in_bullet = line.startswith("* ") or (in_bullet and line.strip() != "")
        if in_bullet and not line.startswith(("* ", " ")):
            lines[index] = f"  {line}"


def shorten_signature(
    app: Sphinx,
    kind: str,
    name: str,
    value: object,
    options: object,
    signature: str | None,
    returns: str | None,
) -> tuple[str | None, str | None]:
    """Write array types as `ndarray` and defaults that a factory makes as `...`."""
    arrays = re.compile(r"~?(?:numpy\.)?ndarray\[tuple\[.*?\], ~?(?:numpy\.)?dtype\[.*?\]\]")
    short = [
        text and arrays.sub("ndarray", text).replace("<factory>", "...") for text in (signature, returns)
    ]
    return short[0], short[1]


def setup(app: Sphinx) -> None:
    """Connect the functions above to Sphinx."""
    app.connect("source-read", insert_reference)
    app.connect("autodoc-process-docstring", indent_bullets)
    app.connect("autodoc-process-signature", shorten_signature)


smartquotes = False  # `--scale` must not become a dash and a word
html_show_copyright = False
