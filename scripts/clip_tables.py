"""Measures what enhancing keeps of clips and puts the tables into docs/reference/clips.md.

    python scripts/clip_tables.py

A test holds the page to what is measured. Needs the extra `video`.
"""

import os
import sys
from pathlib import Path

from marked_tables import replace_tables

os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "clips.md"


def main() -> None:
    """Replace each table by what is measured now."""
    sys.path.insert(0, str(ROOT / "tests"))
    from clip_fidelity import tables

    replace_tables(PAGE, tables())


if __name__ == "__main__":
    main()
