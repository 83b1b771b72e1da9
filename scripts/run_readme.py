"""Run the commands of Markdown files, in order, in one scratch folder, and stop at the first that fails.

Every fenced block marked `sh` or `python` is run with the virtual environment's programs first on PATH. The
scratch folder holds `photograph.png` (the demo's) and `pictures/` (the tests' crops), and keeps what earlier
blocks wrote. A block right after `<!-- not run: REASON -->` is not run; it is listed with its reason.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 600
PATTERN = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]*?) -->\n+)?^```(?P<language>sh|python)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One fenced block: its line, its language, its text, and the reason if it is not run."""

    line: int
    language: str
    text: str
    reason: str | None


def blocks(markdown: str) -> list[Block]:
    """The blocks marked `sh` or `python`, in order."""
    return [
        Block(
            markdown.count("\n", 0, match.start("language")) + 1, *match.group("language", "text", "reason")
        )
        for match in PATTERN.finditer(markdown)
    ]


def command(block: Block) -> list[str]:
    """The command that runs a block: bash, which stops at the first failure, or Python."""
    if block.language == "sh":
        return ["bash", "-euo", "pipefail", "-c", block.text]
    return [sys.executable, "-c", block.text]


def run(block: Block, folder: Path) -> tuple[int, str]:
    """The exit code of a block run in a folder, and its output, both streams together."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    try:
        done = subprocess.run(
            command(block),
            cwd=folder,
            env=os.environ | {"PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return 124, f"{(error.stdout or b'').decode(errors='replace')}\nstill running after {SECONDS} seconds"
    return done.returncode, done.stdout


def copy_pictures(folder: Path) -> None:
    """Copy the pictures that the commands use into the scratch folder."""
    shutil.copy(ROOT / "src" / "onebranch" / "data" / "photograph.png", folder)
    (folder / "pictures").mkdir()
    for picture in sorted((ROOT / "tests" / "data").glob("*.png")):
        shutil.copy(picture, folder / "pictures")


def check(document: Path, folder: Path) -> int:
    """Run the blocks of a document and return their number; exit at the first that fails, with its output."""
    count = 0
    for block in blocks(document.read_text(encoding="utf-8")):
        location = f"{document.name}:{block.line}"
        if block.reason is not None:
            print(f"{location}: not run: {block.reason}", flush=True)
            continue
        start = time.monotonic()
        code, output = run(block, folder)
        if code:
            sys.exit(f"{location}: exit code {code} from\n\n{block.text}\nIt printed:\n\n{output}")
        print(f"{location}: ok, {time.monotonic() - start:.1f} s: {block.text.splitlines()[0]}", flush=True)
        count += 1
    return count


def main(documents: list[str]) -> None:
    """Run all documents in the same scratch folder; a document without commands is an error."""
    with tempfile.TemporaryDirectory(prefix="onebranch-readme-") as scratch:
        copy_pictures(Path(scratch))
        for name in documents:
            if not check(Path(name), Path(scratch)):
                sys.exit(f"{name}: no ```sh or ```python block was run")


if __name__ == "__main__":
    main(sys.argv[1:] or [str(ROOT / "README.md")])
