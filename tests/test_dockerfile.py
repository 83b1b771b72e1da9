"""The Dockerfile, checked without Docker: `make docker` builds and runs it where Docker runs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def stages() -> list[list[tuple[str, str]]]:
    """The instructions of every stage: (word, arguments)."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    result: list[list[tuple[str, str]]] = []
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "FROM":
            result.append([])
        result[-1].append((word, rest.strip()))
    return result


def test_the_compiler_stays_in_the_first_stage(stages: list[list[tuple[str, str]]]) -> None:
    assert len(stages) == 2
    assert "g++" in str(stages[0])
    assert "apt-get" not in str(stages[1])
    assert "--from=build" in str(stages[1])


def test_the_service_runs_without_rights_and_is_checked(stages: list[list[tuple[str, str]]]) -> None:
    last = dict(stages[-1])
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last["USER"])
    words = [word for word, _ in stages[-1]]
    assert words.index("USER") < words.index("ENTRYPOINT")
    assert "/healthz" in last["HEALTHCHECK"]
    assert last["ENTRYPOINT"].startswith('["onebranch", "serve"')
    assert last["STOPSIGNAL"] == "SIGTERM"
    assert "ADD" not in words


def test_what_is_copied_exists_and_is_not_ignored(stages: list[list[tuple[str, str]]]) -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")}
    for word, rest in stages[0]:
        if word == "COPY":
            for name in rest.split()[:-1]:
                assert (ROOT / name).exists(), name
                assert name in allowed


def test_base_images_name_a_version(stages: list[list[tuple[str, str]]]) -> None:
    for stage in stages:
        assert re.match(r"python:3\.\d+-slim-\w+", stage[0][1])
