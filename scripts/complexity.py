"""Print functions whose cyclomatic complexity by radon's count is too high, and hold their number.

    python scripts/complexity.py

radon counts boolean operators, comprehensions and conditional expressions. Exits with 1 if more functions
than `MAX_FUNCTIONS_ABOVE` exceed `MAX_COMPLEXITY`. Lower the bound whenever the number falls.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from radon.complexity import cc_visit

MAX_COMPLEXITY = 12
MAX_FUNCTIONS_ABOVE = 0

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("src", "benchmarks", "scripts", "examples")


def complexities(path: Path) -> Iterator[tuple[int, str, int]]:
    """Complexity, name and line of every function and method in a file."""
    for block in cc_visit(path.read_text(encoding="utf-8")):
        if block.letter in "FM":
            yield block.complexity, block.fullname, block.lineno


def main() -> int:
    """Print the functions above the limit and the largest complexity; the exit code."""
    rows = [
        (complexity, f"{path.relative_to(ROOT)}:{line}", name)
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "tests" not in path.parts
        for complexity, name, line in complexities(path)
    ]
    above = sorted((row for row in rows if row[0] > MAX_COMPLEXITY), reverse=True)
    for complexity, location, name in above:
        print(f"{complexity:3} {location} {name}")
    print(
        f"{len(above)} of {len(rows)} functions are above {MAX_COMPLEXITY} (at most {MAX_FUNCTIONS_ABOVE});"
        f" the largest complexity is {max(rows)[0]}"
    )
    return int(len(above) > MAX_FUNCTIONS_ABOVE)


if __name__ == "__main__":
    sys.exit(main())
