"""What the documents name exists: tests, source files, pictures and other documents."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "models").glob("*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text(encoding="utf-8")):
        if not target.startswith("https://"):
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_named_tests_exist(document):
    for name, function in re.findall(r"(test_\w+\.py)(?:::(\w+))?", document.read_text(encoding="utf-8")):
        path = ROOT / "tests" / name
        assert path.exists(), name
        assert not function or f"def {function}(" in path.read_text(encoding="utf-8"), function


def test_every_row_of_the_source_method_names_code_and_test():
    text = (ROOT / "docs" / "source-method.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in text.splitlines() if re.match(r"\| P\d+ ", line)]
    assert [row[1].strip() for row in rows] == [f"P{n}" for n in range(1, 16)]
    for row in rows:
        for place in re.findall(r"`([a-z_/]+(?:\.py|/))`", row[3]):
            assert (ROOT / "src" / "onebranch" / place).exists(), place


def test_the_readme_maps_every_part_of_the_package():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / "src" / "onebranch").iterdir():
        named = (
            path.name.startswith("_") or path.suffix not in ("", ".py") or path.name in ("data", "errors.py")
        )
        assert named or f"`{path.name}" in text, path.name
