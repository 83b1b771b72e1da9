"""Where the pictures are, how hypothesis searches, one thread per worker.

Environment: ONEBRANCH_DATA (the full picture sets), ONEBRANCH_FUZZ_SECONDS (time for each fuzz test),
ONEBRANCH_GPU=1 (run the tests that need a GPU), HYPOTHESIS_PROFILE (ci, default, soak).
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from command_line import CommandLine


# Workers of many threads each would fight for the cores; PyTorch and OpenBLAS read these when imported.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

for variable in ("ONEBRANCH_CACHE", "ONEBRANCH_LADDER"):
    if variable not in os.environ:  # folders of this process, inherited by those that it starts
        os.environ[variable] = tempfile.mkdtemp(prefix="onebranch-cache-")
        atexit.register(shutil.rmtree, os.environ[variable], ignore_errors=True)

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("ONEBRANCH_DATA") or ROOT.parent / "shared" / "data")

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("soak", deadline=None, max_examples=2000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default"))


def pytest_configure(config: pytest.Config) -> None:
    """A folder that was named but is not there is a mistake, not a reason to skip."""
    if os.environ.get("ONEBRANCH_DATA") and not DATA.is_dir():
        raise pytest.UsageError(f"ONEBRANCH_DATA={DATA} is not a folder")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, each by name, what needs the full picture sets or a GPU where there is none."""
    for item in items:
        if "shared_data" in getattr(item, "fixturenames", ()) and not DATA.is_dir():
            item.add_marker(
                pytest.mark.skip(reason=f"{item.nodeid} needs the full picture sets (ONEBRANCH_DATA)")
            )
        if item.get_closest_marker("gpu") and os.environ.get("ONEBRANCH_GPU") != "1":
            item.add_marker(pytest.mark.skip(reason=f"{item.nodeid} needs a GPU (ONEBRANCH_GPU=1)"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the full picture sets (train, val, odd); tests that use it are skipped without it."""
    if not DATA.is_dir():
        pytest.skip(f"needs the full picture sets: ONEBRANCH_DATA, or {DATA}")
    return DATA


@pytest.fixture(scope="session")
def crops() -> Path:
    """The folder of the small pictures that live in the repository; see its README.md."""
    return ROOT / "tests" / "data"


@pytest.fixture(scope="session")
def fuzz_seconds() -> float:
    """How long one fuzz test may search: short by default, set by `make slow` and `make soak`."""
    return float(os.environ.get("ONEBRANCH_FUZZ_SECONDS", "5"))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> "CommandLine":
    """The command line, run inside the test's process."""
    from command_line import (
        CommandLine,
    )  # not above: it imports numpy, which reads the variables when imported

    return CommandLine(monkeypatch, capsys)
