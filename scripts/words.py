"""Print coined words in names, docstrings, messages and documentation, and hold their number.

    python scripts/words.py [--list]

The project writes the field's terms (see "Words" in ARCHITECTURE.md). This finds the words that can be found
without false alarms: names in Python and C++, phrases in comments, texts and Markdown. Exits with 1 if
there are more than `MAX_FINDINGS`. Lower the bound whenever it falls.
"""

import argparse
import ast
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

MAX_FINDINGS = 0

ROOT = Path(__file__).resolve().parent.parent

Find = Callable[[str], Iterator[tuple[int, str, str]]]
"""Line, word and suggestion of each finding in a text."""

PYTHON_FOLDERS = ("src/onebranch", "tests", "scripts", "benchmarks", "examples", "docs")

NOT_READ = ("words.py", "test_scripts.py", "CHANGELOG.md")
"""Files that name the words themselves."""

WHOLE_NAMES = {
    "found": "a name of what was found",
    "own": "a name of what it holds",
    "told": "a name of what it holds",
    "way": "decoder, encoder, path",
    "ways": "decoders, encoders, paths",
    "place": "offset, index, location",
    "places": "offsets, indices, locations",
    "form": "affine_form, file_format",
    "forms": "affine_forms, file_formats",
    "room": "memory_limit, memory_estimate",
    "sight": "analysis",
    "look": "analyze",
    "reach": "receptive_field, halo",
    "leads": "is_main",
    "most": "a constant with its unit or meaning",
    "largest": "a constant with its unit or meaning",
    "least": "a constant with its unit or meaning",
    "longest": "a constant with its unit or meaning",
    "whole": "a name of what it holds",
}
"""Names that say nothing, compared without leading underscores and case, each with what to write instead."""

UPPER_CASE_ONLY = {"most", "largest", "least", "longest", "whole"}
"""Of these only constants are counted."""

NAME_PARTS = {
    "seeing": "analysis",
    "sight": "analysis",
    "foresee": "preview",
    "foreseen": "preview",
    "told": "report, error",
    "unsaid": "fallback_reason",
    "nameless": "anonymous",
    "spilling": "temporary_file",
    "veil": "alpha",
    "veils": "alphas",
}
"""Parts of a name between underscores or capitals."""

PHRASES = {
    r"\bsees\b": "analysis",
    r"\bsight\b": "analysis",
    r"\bforesee\w*": "preview",
    r"\banybody'?s?\b": "any ONNX model, third-party",
    r"\bsomebody\b": "third-party",
    r"\bhow far (?:it|a \w+|the network) looks\b": "receptive field, halo",
    r"\bof our own\b": "onebranch's",
    r"\bis (?:said|told)\b": "is reported",
    r"\bshines? through\b": "opaque, transparent",
    r"\bon earth\b": "GPS metadata",
    r"\bcame to lie\b": "stayed empty",
}
"""In docstrings and other text, without case."""

IDENTIFIER = re.compile(r"[A-Za-z_]\w*")

PARTS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+")


def findings(source: str) -> Iterator[tuple[int, str, str]]:
    """Line, word and suggestion of every coined word in a module.

    >>> min(findings("MOST = 3\\ndef look(found): 'What the network sees.'"))
    (1, 'MOST', 'a constant with its unit or meaning')
    """
    for node in ast.walk(ast.parse(source)):
        for name in _defined(node):
            yield from ((node.lineno, name, advice) for advice in _advice_on_name(name))  # type: ignore[attr-defined]
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from ((node.lineno, word, advice) for _, word, advice in text_findings(node.value))


def cpp_findings(source: str) -> Iterator[tuple[int, str, str]]:
    """Line, word and suggestion of every coined word in a C++ file: its identifiers and its comments.

    >>> sorted(cpp_findings("int MOST = 3;  // most\\nint rows;  // what a row sees"))
    [(1, 'MOST', 'a constant with its unit or meaning'), (2, 'sees', 'analysis')]
    """
    yield from text_findings(source)
    for number, line in enumerate(source.splitlines(), 1):
        for name in IDENTIFIER.findall(line.partition("//")[0]):
            yield from ((number, name, advice) for advice in _advice_on_name(name))


def text_findings(text: str) -> Iterator[tuple[int, str, str]]:
    """Line, word and suggestion of every coined phrase in a text.

    >>> list(text_findings("Sizes.\\nWhat the network sees."))
    [(2, 'sees', 'analysis')]
    """
    for pattern, advice in PHRASES.items():
        for match in re.finditer(pattern, text, re.IGNORECASE):
            yield text.count("\n", 0, match.start()) + 1, match[0], advice


def _defined(node: ast.AST) -> Iterator[str]:
    """The names that a node of the syntax tree defines."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield node.name
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id


def _advice_on_name(name: str) -> Iterator[str]:
    bare = name.lstrip("_")
    lower = bare.lower()
    if lower in WHOLE_NAMES and (lower not in UPPER_CASE_ONLY or bare.isupper()):
        yield WHOLE_NAMES[lower]
    for part in PARTS.findall(bare):
        if lower != part.lower() and part.lower() in NAME_PARTS:
            yield NAME_PARTS[part.lower()]


def _files() -> Iterator[tuple[Path, Find]]:
    """Every file that is checked, with the function that finds words in it."""
    kinds: tuple[tuple[Find, Iterable[Path]], ...] = (
        (findings, (path for folder in PYTHON_FOLDERS for path in (ROOT / folder).rglob("*.py"))),
        (cpp_findings, (path for kind in ("*.h", "*.cpp") for path in (ROOT / "src/engine").rglob(kind))),
        (text_findings, (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))),
    )
    for find, paths in kinds:
        yield from ((path, find) for path in sorted(paths) if path.name not in NOT_READ)


def main() -> int:
    """Print the findings, or their number by word; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="print every finding with its file and line")
    arguments = parser.parse_args()
    rows = [
        (f"{path.relative_to(ROOT)}:{line}", word, advice)
        for path, find in _files()
        for line, word, advice in find(path.read_text(encoding="utf-8"))
    ]
    if arguments.list:
        for location, word, advice in rows:
            print(f"{location}: {word} (write: {advice})")
    elif len(rows) > MAX_FINDINGS:
        for word, count in Counter(word.lower() for _, word, _ in rows).most_common():
            print(f"{count:5} {word}")
    print(f"{len(rows)} coined words (at most {MAX_FINDINGS}); --list shows where")
    return int(len(rows) > MAX_FINDINGS)


if __name__ == "__main__":
    sys.exit(main())
