"""What the documents name exists: pages, pictures, source files, tests, commands, options, public names."""

import re
import shlex
import sys
import tomllib
from pathlib import Path

import click
import pytest

import onebranch
from onebranch.cli import COMMANDS
from onebranch.cli import onebranch as command_line
from onebranch.model.catalogue import CATALOGUE

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *PAGES, *(ROOT / "models").glob("*.md"), *(ROOT / "examples").glob("*.md")]
)
PACKAGE = ROOT / "src" / "onebranch"

EACH_DOCUMENT = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


@EACH_DOCUMENT
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text(encoding="utf-8")):
        if not target.startswith("https://"):
            assert (document.parent / target).exists(), target


@EACH_DOCUMENT
def test_named_tests_exist(document):
    for name, function in re.findall(r"(test_\w+\.py)(?:::(\w+))?", document.read_text(encoding="utf-8")):
        path = ROOT / "tests" / name
        assert path.exists(), name
        assert not function or f"def {function}(" in path.read_text(encoding="utf-8"), function


@pytest.mark.parametrize(
    "document",
    [document for document in DOCUMENTS if document.name != "CHANGELOG.md"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_named_source_files_exist(document):
    """A path in backticks, such as `spec/branch.py` or `scripts/run_readme.py`, is one of ours."""
    text = document.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:[a-z_]+/)+(?:[a-z_]+\.(?:py|cpp|h|sh|toml|txt))?)`", text):
        folders = (ROOT, PACKAGE, ROOT / "src", document.parent)
        assert any((folder / path).exists() for folder in folders), path


def commands_in(document: Path) -> list[list[str]]:
    """The words of every line of a `sh` block that calls onebranch, comments and continuations resolved."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    words = [shlex.split(line, comments=True) for line in lines]
    return [each[1:] for each in words if each[:1] == ["onebranch"]]


@EACH_DOCUMENT
def test_named_commands_and_options_exist(document):
    for name, *arguments in commands_in(document):
        command = command_line.get_command(click.Context(command_line), name)
        assert command is not None, name
        known = {text for option in command.params for text in (*option.opts, *option.secondary_opts)}
        used = {word.partition("=")[0] for word in arguments if re.match(r"--?[a-z]", word)}
        assert used <= known | {"--help", "-h"}, (name, used - known)


@EACH_DOCUMENT
def test_python_blocks_name_what_is_public(document):
    blocks = re.findall(
        r"^```python\n(.*?)^```$", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    for block in blocks:
        compile(block, str(document), "exec")
        assert set(
            re.findall(r"\bonebranch\.([a-zA-Z_]\w*)", re.sub(r"from onebranch\.\S+", "", block))
        ) <= set(onebranch.__all__)


def test_every_row_of_the_source_method_names_code_and_test():
    text = (ROOT / "docs" / "concepts" / "source-method.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in text.splitlines() if re.match(r"\| P\d+ ", line)]
    assert [row[1].strip() for row in rows] == [f"P{n}" for n in range(1, 16)]
    for row in rows:
        for path in re.findall(r"`([a-z_/]+(?:\.py|/))`", row[3]):
            assert (PACKAGE / path).exists() or (ROOT / path).exists(), path


def test_the_architecture_names_every_part_of_the_package():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for path in PACKAGE.iterdir():
        if not path.name.startswith("_") and (path.is_dir() or path.suffix == ".py") and path.name != "data":
            assert re.search(rf"\b{path.stem}\b", text), path.name


def test_the_architecture_lists_the_layers_that_are_enforced():
    """Names in the first column of the layer table, row by row, are those of the import-linter contract."""
    table = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").split("```")[1]
    shown = [re.findall(r"\w+", row.split("  ")[0]) for row in table.splitlines()[1:] if row[:1].strip()]
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    enforced = [re.findall(r"\w+", row) for row in contract["layers"]]
    existing = [
        [name for name in row if (PACKAGE / name).exists() or (PACKAGE / f"{name}.py").exists()]
        for row in enforced
    ]
    assert [sorted(row) for row in shown] == [sorted(row) for row in existing if row]


def test_the_scores_are_those_of_the_shipped_models(monkeypatch):
    """`python scripts/model_tables.py` renews them."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import model_tables

    for path, text in model_tables.documents().items():
        assert path.read_text(encoding="utf-8") == text, path.name


def test_the_table_of_training_ends_with_the_run_of_each_shipped_file(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import model_tables

    shipped = {name: onebranch.load(name) for name in CATALOGUE if not name.endswith(("-int8", "-branches"))}
    last = {name: runs[-1] for name, (_, runs) in model_tables.RUNS.items()}
    assert last == {name: model.recipe["config"]["name"] for name, model in shipped.items()}


def test_the_site_links_every_page():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    listed = re.findall(r"^[a-z][\w/-]*$", index, re.MULTILINE)
    assert sorted(listed) == sorted(
        str(page.relative_to(ROOT / "docs").with_suffix("")) for page in PAGES if page.name != "index.md"
    )


def test_the_reference_holds_every_command_option_and_public_name(monkeypatch):
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    monkeypatch.delitem(sys.modules, "conf", raising=False)
    import conf

    python, commands = conf.python_reference(), conf.command_reference()
    for name in onebranch.__all__:
        assert python.count(f"onebranch.{name}\n") == 1, name
    for name in COMMANDS:
        assert f"## onebranch {name}\n" in commands
        command = command_line.get_command(click.Context(command_line), name)
        for option in command.params:
            assert any(text in commands for text in option.opts) or not isinstance(option, click.Option), (
                option
            )
