"""The table of what the engine runs: every cell is run here, and the page shows it."""

import re
from pathlib import Path

import pytest

from engine_operations import NETWORK_ROWS, PRECISIONS, PROGRAM_ROWS, runs_network, runs_program, table
from onebranch.runtime.engine_library import available, instruction_sets

pytestmark = pytest.mark.skipif(bool(available()), reason=available())

PAGE = Path(__file__).resolve().parent.parent / "docs" / "concepts" / "engine.md"
SETS = instruction_sets() if not available() else []


@pytest.mark.parametrize("instructions", SETS)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("row", NETWORK_ROWS)
def test_networks_run_in_every_precision_on_every_set(row: str, precision: str, instructions: str) -> None:
    for build in NETWORK_ROWS[row]:
        assert runs_network(build(), precision, instructions), build


@pytest.mark.parametrize("instructions", SETS)
@pytest.mark.parametrize("row", PROGRAM_ROWS)
def test_programs_run_on_every_set(row: str, instructions: str) -> None:
    for number, build in enumerate(PROGRAM_ROWS[row]):
        assert runs_program(build, instructions), number


def test_the_page_shows_what_runs() -> None:
    page = PAGE.read_text(encoding="utf-8")
    match = re.search(r"<!-- operations -->\n(.*?)\n<!-- end -->", page, re.DOTALL)
    assert match and match[1] == table(), "run scripts/engine_table.py"
