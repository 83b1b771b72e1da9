"""The README runner: it runs what it should, says what it does not run, and fails loudly."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts" / "run_readme.py"

GOOD = """
Some text.

```sh
echo kept > state.txt
test -f photograph.png
ls pictures/*.png
```

<!-- not run: it takes an hour -->
```sh
exit 7
```

```toml
exit = 8
```

```python
from pathlib import Path
assert Path("state.txt").read_text() == "kept\\n"
```
"""


def run(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    document = folder / "README.md"
    document.write_text(text, encoding="utf-8")
    command = [sys.executable, str(SCRIPT), str(document)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_blocks_run_in_order_in_one_folder(tmp_path):
    done = run(tmp_path, GOOD)
    assert done.returncode == 0, done.stderr
    assert [line.split(",")[0] for line in done.stdout.splitlines()] == [
        "README.md:4: ok",
        "README.md:11: not run: it takes an hour",
        "README.md:19: ok",
    ]


@pytest.mark.parametrize(
    "block",
    ["```sh\necho before\nfalse\necho after\n```\n", "```sh\necho before\nfalse | cat\n```\n"],
)
def test_a_failing_line_stops_with_the_block_and_its_output(tmp_path, block):
    done = run(tmp_path, block)
    assert done.returncode == 1
    assert "README.md:1: exit code 1" in done.stderr
    assert "false" in done.stderr
    assert "It printed:\n\nbefore\n" in done.stderr


def test_failing_python_shows_the_error(tmp_path):
    done = run(tmp_path, "```python\nraise ValueError('seen')\n```\n")
    assert done.returncode == 1
    assert "ValueError: seen" in done.stderr


@pytest.mark.parametrize("text", ["no commands\n", "<!-- not run: slow -->\n```sh\ntrue\n```\n"])
def test_a_document_that_runs_nothing_is_an_error(tmp_path, text):
    done = run(tmp_path, text)
    assert done.returncode == 1
    assert "no ```sh or ```python block was run" in done.stderr


def test_no_two_commands_of_the_readme_and_the_guides_write_the_same_file() -> None:
    """So all of them run in order in one folder. A result that exists is not replaced without --overwrite."""
    documents = [ROOT / "README.md", ROOT / "docs" / "start.md", *sorted((ROOT / "docs/guides").glob("*.md"))]
    text = "\n".join(
        block
        for document in documents
        for block in re.findall(r"^```(?:sh|python)\n(.*?)^```$", document.read_text("utf-8"), re.M | re.S)
    )
    written = re.findall(r" -o ([^-\s]\S*)| > (\S+)|write_picture\(\w+, \"([^\"]+)\"", text)
    names = Counter("".join(groups) for groups in written)
    assert len(names) > 40
    assert [name for name, count in names.items() if count > 1] == []
