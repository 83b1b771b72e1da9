"""Print figures of the source tree, before (a revision) and after (the working tree).

    python scripts/figures.py [REVISION]

Words of README.md, names defined in two or more modules, coined words, lines of images/ and graph/, functions
above the complexity limit and the largest complexity by radon's count, and the density of comments.
"""

import io
import subprocess
import sys
import tarfile
import tempfile
import tokenize
from collections.abc import Callable, Iterable
from pathlib import Path

from complexity import MAX_COMPLEXITY, complexities
from duplicate_names import classes_twice_in_a_folder, duplicates, modules_by_name
from words import findings

ROOT = Path(__file__).resolve().parent.parent
NOT_CODE = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)


def comments_per_100_lines_of_code(files: Iterable[Path]) -> float:
    """Comment lines per 100 lines of Python code; docstrings count as neither."""
    comments, code = 0, 0
    for path in files:
        lines: set[int] = set()
        for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
            comments += token.type == tokenize.COMMENT and "noqa" not in token.string
            is_docstring = token.type == tokenize.STRING and token.line.lstrip().startswith(('"""', 'r"""'))
            if token.type not in NOT_CODE and not is_docstring:
                lines |= set(range(token.start[0], token.end[0] + 1))
        code += len(lines)
    return 100 * comments / max(code, 1)


def comment_line_percentage(files: Iterable[Path]) -> float:
    """Percentage of the non-empty lines of C++ that hold only a comment."""
    lines = [line.strip() for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    filled = [line for line in lines if line]
    return 100 * sum(line.startswith(("//", "/*", "*")) for line in filled) / max(len(filled), 1)


def _complexities(root: Path) -> list[int]:
    return [row[0] for path in (root / "src").rglob("*.py") for row in complexities(path)]


def _line_count(folder: Path) -> int:
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in folder.rglob("*.py"))


def _duplicate_count(root: Path) -> int:
    return len(duplicates(modules_by_name(root / "src/onebranch")))


def _coined_words(root: Path) -> int:
    files = (root / "src" / "onebranch").rglob("*.py")
    return sum(len(list(findings(path.read_text(encoding="utf-8")))) for path in files)


FIGURES: dict[str, Callable[[Path], float]] = {
    "words of README.md": lambda root: len((root / "README.md").read_text(encoding="utf-8").split()),
    "names defined in two or more modules": lambda root: len(
        duplicates(modules_by_name(root / "src/onebranch"))
    ),
    "public classes twice in one folder": lambda root: len(
        classes_twice_in_a_folder(modules_by_name(root / "src/onebranch"))
    ),
    "coined words (scripts/words.py)": _coined_words,
    "lines of images/": lambda root: _line_count(root / "src/onebranch/images"),
    "lines of graph/": lambda root: _line_count(root / "src/onebranch/graph"),
    "lines of src/onebranch": lambda root: _line_count(root / "src/onebranch"),
    f"functions of src/ with a complexity above {MAX_COMPLEXITY}": lambda root: sum(
        value > MAX_COMPLEXITY for value in _complexities(root)
    ),
    "largest complexity in src/": lambda root: max(_complexities(root)),
    "comments per 100 lines of code in src/": lambda root: comments_per_100_lines_of_code(
        (root / "src").rglob("*.py")
    ),
    "comment lines in src/engine, %": lambda root: comment_line_percentage(
        [*(root / "src/engine").rglob("*.cpp"), *(root / "src/engine").rglob("*.h")]
    ),
}
"""Every figure as a function of a source tree."""


def main(revision: str) -> None:
    """Print a table."""
    archive = subprocess.run(
        ["git", "archive", revision], cwd=ROOT, stdout=subprocess.PIPE, check=True
    ).stdout
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(folder, filter="data")
        print(f"{'':55} {revision[:10]:>10} {'now':>10}")
        for name, figure in FIGURES.items():
            print(f"{name:55} {_text(figure(Path(folder))):>10} {_text(figure(ROOT)):>10}")


def _text(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.1f}"


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "HEAD")
