"""The page about clips shows what is measured."""

import re
from pathlib import Path

import pytest

from clip_fidelity import tables

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "clips.md"


@pytest.mark.slow
def test_the_page_about_clips_shows_what_is_measured() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name, table in tables().items():
        match = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- end -->", page, re.DOTALL)
        assert match, f"the page has no table of {name}; run scripts/clip_tables.py"
        assert match[1] == table, "run scripts/clip_tables.py"


def test_the_tests_of_the_page_exist() -> None:
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", PAGE.read_text())
    assert len(named) > 25
    for file, name in named:
        assert f"def {name}(" in (Path(__file__).parent / file).read_text(), f"{file}::{name}"
