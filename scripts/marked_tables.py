"""Puts measured tables into a page, each between the comments `<!-- NAME -->` and `<!-- end -->`."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path


def replace_tables(path: Path, tables: Mapping[str, str]) -> None:
    """Replace each table of the page; exits with a message if the page has not exactly one place for it."""
    page = path.read_text(encoding="utf-8")
    for name, table in tables.items():
        matches = re.findall(rf"<!-- {name} -->\n.*?<!-- end -->", page, re.DOTALL)
        if len(matches) != 1:
            sys.exit(f"{path} has no place for the table '{name}'")
        page = page.replace(matches[0], f"<!-- {name} -->\n{table}\n<!-- end -->")
    path.write_text(page, encoding="utf-8")
