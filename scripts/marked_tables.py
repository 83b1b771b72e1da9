"""Puts measured tables into a page, each between the comments `<!-- NAME -->` and `<!-- end -->`."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path


def replace_tables(path: Path, tables: Mapping[str, str]) -> None:
    """Replace each table of the page; exits with a message if the page has not exactly one place for it."""
    path.write_text(with_tables(path, tables), encoding="utf-8")


def with_tables(path: Path, tables: Mapping[str, str]) -> str:
    """The text of the page with these tables; exits with a message if one has not exactly one place."""
    page = path.read_text(encoding="utf-8")
    for name, table in tables.items():
        matches = re.findall(rf"<!-- {name} -->\n.*?<!-- end -->", page, re.DOTALL)
        if len(matches) != 1:
            sys.exit(f"{path} has no place for the table '{name}'")
        page = page.replace(matches[0], f"<!-- {name} -->\n{table}\n<!-- end -->")
    return page
