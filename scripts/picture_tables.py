"""Measures what enhancing keeps of pictures and puts the tables into docs/reference/pictures.md.

    python scripts/picture_tables.py

A test holds the page to what is measured. Needs the extra `dev` (OpenCV decodes what Pillow does not).
"""

import os
import sys
from pathlib import Path

from marked_tables import replace_tables

os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "pictures.md"


def main() -> None:
    """Replace each table by what is measured now."""
    sys.path.insert(0, str(ROOT / "tests"))
    from fidelity import tables

    replace_tables(PAGE, tables())


if __name__ == "__main__":
    main()
