"""Runs the engine's operations and puts the table of what it runs into docs/concepts/engine.md.

    python scripts/engine_table.py

A test holds the page to what runs.
"""

import sys
from pathlib import Path

from marked_tables import replace_tables

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "concepts" / "engine.md"


def main() -> None:
    """Replace the table by what runs now."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]
    from engine_operations import table

    replace_tables(PAGE, {"operations": table()})


if __name__ == "__main__":
    main()
