"""Measures what enhancing keeps of pictures and puts the tables into docs/reference/pictures.md.

    python scripts/picture_tables.py

A test holds the page to what is measured. Needs the extra `dev` (OpenCV decodes what Pillow does not).
"""

import os
import re
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "pictures.md"


def main() -> None:
    """Replace each table by what is measured now."""
    sys.path.insert(0, str(ROOT / "tests"))
    from fidelity import tables

    page = PAGE.read_text(encoding="utf-8")
    for name, table in tables().items():
        found = re.findall(rf"<!-- {name} -->\n.*?<!-- end -->", page, re.DOTALL)
        if len(found) != 1:
            sys.exit(f"{PAGE} has no place for the table '{name}'")
        page = page.replace(found[0], f"<!-- {name} -->\n{table}\n<!-- end -->")
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
