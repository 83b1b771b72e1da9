"""Measures what enhancing keeps of clips and puts the tables into docs/reference/clips.md.

    python scripts/clip_tables.py

A test holds the page to what is measured. Needs the extra `video`.
"""

import os
import re
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "clips.md"


def main() -> None:
    """Replace each table by what is measured now."""
    sys.path.insert(0, str(ROOT / "tests"))
    from clip_fidelity import tables

    page = PAGE.read_text(encoding="utf-8")
    for name, table in tables().items():
        marked = re.compile(rf"<!-- {name} -->\n.*?<!-- end -->", re.DOTALL)
        page = marked.sub(lambda _, text=f"<!-- {name} -->\n{table}\n<!-- end -->": text, page)  # type: ignore[misc]
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
