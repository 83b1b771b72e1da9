"""The static page: which files are written, and that they fit each other."""

import gzip
import json
import re
from pathlib import Path

import pytest

from command_line import CommandLine
from onebranch.errors import OnebranchError
from onebranch.model.catalogue import CATALOGUE, DEFAULT_MODEL
from onebranch.page import PAGE_MODELS, WEB_FOLDER, page_files, write_page

MAX_GZIP_BYTES, MAX_GZIP_BYTES_WITH_MODEL = 150_000, 200_000


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """The command line."""
    return CommandLine(monkeypatch, capsys)


def test_the_command_writes_the_page(run, tmp_path):
    """All files are there, files of others are kept, and a second run replaces the first."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "other.txt").write_text("kept")
    for _ in range(2):
        outcome = run("page", "-o", folder)
        assert outcome.code == 0, outcome.errors
    written = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert written == {*page_files(), "other.txt"}
    assert (folder / "engine.wasm").read_bytes() == (WEB_FOLDER / "engine.wasm").read_bytes()


def test_a_folder_that_cannot_be_made_is_one_line(run, tmp_path):
    """A file in the way is a mistake of the user."""
    (tmp_path / "file").write_text("")
    assert "cannot create the folder" in run.refused("page", "-o", tmp_path / "file" / "site")
    with pytest.raises(OnebranchError, match="cannot create the folder"):
        write_page(tmp_path / "file" / "site")


def test_every_model_is_in_the_table_with_its_size():
    """models.json names every merged model, and the file that it names is there."""
    files = page_files()
    table = json.loads(files["models.json"])
    assert [entry["name"] for entry in table] == list(PAGE_MODELS)
    assert {"restore-x2", "restore-x4", "photo-x2", "denoise-int8"} <= set(PAGE_MODELS)
    assert {"photo-x2-branches", "restore-luma-x2"}.isdisjoint(PAGE_MODELS)
    for entry in table:
        file, version = entry["file"].split("?")
        assert len(files[file]) == entry["bytes"] and len(version) == 12
        assert files[file] == CATALOGUE[entry["name"]].path.read_bytes()


def test_the_page_begins_with_the_model_that_enhance_takes():
    """And has a title and a description for every model."""
    code = page_files()["page.mjs"].decode()
    assert f'const DEFAULT_MODEL = "{DEFAULT_MODEL}";' in code
    for name in PAGE_MODELS:
        base = name.removesuffix("-int8")
        assert len(re.findall(rf'^  "?{base}"?: "', code, re.MULTILINE)) == 2


def test_the_page_refers_only_to_its_own_files():
    """Every import and every address in the modules and in the HTML is a file that is written."""
    files = page_files()
    for name, content in files.items():
        if not name.endswith((".mjs", ".html", ".css", ".js", ".webmanifest")):
            continue
        text = content.decode()
        pattern = r'from "\./([^"]+)"|URL\("\./([^"]+)"|(?:src|href)="([^"#]+)"'
        for groups in re.findall(pattern, text):
            assert "".join(groups) in files, f"{name} refers to {groups}"
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), f"{name} names another site"


def test_the_service_worker_keeps_all_files_of_the_page():
    """It lists every file but models and the sample, and its version changes with their content."""
    text = page_files()["service-worker.js"].decode()
    kept = json.loads(re.search(r"FILES = (\[.*\]);", text)[1])
    expected = set(page_files()) - {"service-worker.js", "sample.png"}
    assert set(kept) == {name for name in expected if not name.startswith("models/")}
    assert re.search(r'onebranch-\$\{"[0-9a-f]{16}"\}', text)


def test_the_page_is_small(capsys):
    """Page and engine, and both with the smallest model, stay below their limits when they are compressed."""
    files = {name: len(gzip.compress(content, 9)) for name, content in page_files().items()}
    models = [size for name, size in files.items() if name.startswith("models/")]
    page = sum(files.values()) - sum(models) - files["sample.png"]
    with capsys.disabled():
        print(
            f"\npage and engine: {page:,} bytes with gzip, {page + min(models):,} with the smallest model",
            end=" ",
        )
    assert page < MAX_GZIP_BYTES
    assert page + min(models) < MAX_GZIP_BYTES_WITH_MODEL


def test_the_policy_allows_no_inline_code_and_no_other_site():
    """The content security policy is strict, and nothing in the HTML needs more."""
    html = page_files()["index.html"].decode()
    policy = re.search(r'content="(default-src[^"]+)"', html)[1]
    assert policy.startswith("default-src 'none'; script-src 'self' 'wasm-unsafe-eval';")
    assert "unsafe-inline" not in policy and "'unsafe-eval'" not in policy and "http" not in policy
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son[a-z]+=", html)


def test_the_package_names_files_that_exist():
    """package.json of the JavaScript package."""
    package = json.loads((WEB_FOLDER / "package.json").read_text())
    for path in package["exports"].values():
        assert (WEB_FOLDER / Path(path)).is_file()
