"""Checks the files of a release: python scripts/check_release.py dist.

One sdist and at least one wheel of the version in onebranch.__version__, valid metadata, the licence, shipped
models and the engine in the wheel, everything that a build needs in the sdist, and no build results in it.
"""

import sys
import tarfile
import zipfile
from pathlib import Path

from packaging.metadata import Metadata

import onebranch

SDIST_FILES = ("CMakeLists.txt", "LICENSE", "README.md", "pyproject.toml", "src/engine/engine.cpp")
WHEEL_FILES = ("onebranch/__init__.py", "onebranch/py.typed", "onebranch/data/models/photo-x2.safetensors")
MAX_WHEEL_MIB = 8
MAX_SDIST_MIB = 8


def check_sdist(path: Path) -> str:
    """One line about a sound sdist. Raises AssertionError otherwise."""
    with tarfile.open(path) as archive:
        root = archive.getnames()[0].split("/")[0]
        names = {name.partition("/")[2] for name in archive.getnames()}
        info = archive.extractfile(f"{root}/PKG-INFO")
        assert info is not None
        check_metadata(info.read())
    assert root == f"onebranch-{onebranch.__version__}", root
    assert not (absent := [name for name in SDIST_FILES if name not in names]), f"{path} lacks {absent}"
    built = [name for name in names if name.endswith((".so", ".pyc", ".dylib", ".dll"))]
    assert not built, f"{path} holds build results: {built}"
    return size_line(path, MAX_SDIST_MIB)


def check_wheel(path: Path) -> str:
    """One line about a sound wheel. Raises AssertionError otherwise."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None, f"{path} is damaged"
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        check_metadata(archive.read(metadata))
    assert not (absent := [name for name in WHEEL_FILES if name not in names]), f"{path} lacks {absent}"
    assert any("onebranch_engine" in name for name in names), f"{path} has no engine"
    assert any(name.endswith("licenses/LICENSE") for name in names), f"{path} has no licence"
    foreign = {name.split("/")[0] for name in names} - {"onebranch", metadata.split("/")[0], "onebranch.libs"}
    assert not foreign, f"{path} installs {foreign}"
    return size_line(path, MAX_WHEEL_MIB)


def check_metadata(content: bytes) -> None:
    """Raise an exception unless the metadata is valid and of this version."""
    metadata = Metadata.from_email(content, validate=True)
    assert str(metadata.version) == onebranch.__version__, metadata.version
    assert metadata.description, "the long description is missing"


def size_line(path: Path, limit: int) -> str:
    """Name and size of a file. Raises AssertionError if it exceeds the limit in MiB."""
    size = path.stat().st_size / 2**20
    assert size <= limit, f"{path} takes {size:.1f} MiB, more than {limit}"
    return f"{path.name}: {size:.1f} MiB"


def main(folder: Path) -> None:
    """Check every file and print one line each."""
    sdists, wheels = sorted(folder.glob("*.tar.gz")), sorted(folder.glob("*.whl"))
    assert len(sdists) == 1, f"one sdist is expected, not {sdists}"
    assert wheels, f"there is no wheel in {folder}"
    for line in (*map(check_sdist, sdists), *map(check_wheel, wheels)):
        print(line)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
