"""What becomes of each of the 94 odd files: read as what, or refused with which words (odd_files.tsv)."""

from pathlib import Path

import pytest

from onebranch.errors import OnebranchError
from onebranch.images.reading import read

TABLE = Path(__file__).parent / "odd_files.tsv"
OUTCOMES = {line.split("\t")[0]: line.split("\t")[1:] for line in TABLE.read_text().splitlines()}


def outcome(path: Path) -> list[str]:
    """What reading gives, in the table's words."""
    try:
        found = read(path)
    except OnebranchError as error:
        text = str(error)
        assert "\n" not in text
        assert text.startswith(f"cannot read '{path}': ")
        return ["refused", text.removeprefix(f"cannot read '{path}': ")]
    return [
        "read",
        f"{found.width}x{found.height}",
        "grey" if found.channels == 1 else "RGB",
        "-" if found.alpha is None else "alpha",
        found.route.depth or found.pixels.dtype.name,
        str(len(found.metadata.icc or b"")),
        found.route.kind or "-",
        "; ".join(found.notes) or "-",
    ]


def test_the_table_names_every_odd_file(shared_data):
    files = {path.name[:3] for path in (shared_data / "odd").iterdir() if path.suffix != ".tsv"}
    assert files == set(OUTCOMES)
    assert len(OUTCOMES) == 94


@pytest.mark.parametrize("number", OUTCOMES)
def test_odd_files_end_as_the_table_says(shared_data, capfd, number):
    (path,) = (shared_data / "odd").glob(f"{number}_*")
    assert outcome(path) == OUTCOMES[number]
    assert capfd.readouterr() == ("", "")
