"""The user's cache folder: its place by operating system, damaged files, folders that cannot be used."""

import sys

import pytest

from onebranch.user_cache import cache_folder, installed_version, read_cached, store


def test_what_is_stored_is_read(monkeypatch, tmp_path):
    monkeypatch.setenv("ONEBRANCH_CACHE", str(tmp_path / "new" / "cache"))
    assert read_cached("a") is None
    store("a", b"first")
    store("a", b"second")
    assert read_cached("a") == b"second"
    assert [path.name for path in (tmp_path / "new" / "cache").iterdir()] == ["a"]


@pytest.mark.parametrize("damage", [b"", b"short", bytes(40)])
def test_a_damaged_file_is_ignored(monkeypatch, tmp_path, damage):
    monkeypatch.setenv("ONEBRANCH_CACHE", str(tmp_path))
    (tmp_path / "a").write_bytes(damage)
    assert read_cached("a") is None


def test_a_folder_that_cannot_be_used_is_no_error(monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("ONEBRANCH_CACHE", str(tmp_path / "file"))
    store("a", b"content")
    assert read_cached("a") is None


@pytest.mark.parametrize(
    ("platform", "variable", "expected"),
    [
        ("linux", "XDG_CACHE_HOME", "onebranch"),
        ("win32", "LOCALAPPDATA", "onebranch/Cache"),
    ],
)
def test_the_folder_follows_the_operating_system(monkeypatch, tmp_path, platform, variable, expected):
    monkeypatch.delenv("ONEBRANCH_CACHE")
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv(variable, str(tmp_path))
    assert cache_folder() == tmp_path / expected
    monkeypatch.delenv(variable)
    assert cache_folder().is_absolute()


def test_the_version_of_a_package_without_metadata_is_empty():
    assert installed_version("onebranch-of-nobody") == ""
    assert installed_version("numpy")
