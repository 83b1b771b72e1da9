"""Picture files in folders: names, damaged pictures among valid ones; nothing is lost or overwritten."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from network_specs import random_model
from onebranch.enhancer import jobs, single_file
from onebranch.enhancer.batch import Failed
from onebranch.enhancer.enhancer import Enhancer, enhance
from onebranch.enhancer.folders import BatchObserver, enhance_files
from onebranch.enhancer.options import Options
from onebranch.enhancer.single_file import FileOptions
from onebranch.errors import OnebranchError
from onebranch.images import reading
from onebranch.images.encoders.encoding import Encoding
from onebranch.images.picture import Picture
from onebranch.images.probe import Probe, probe
from onebranch.images.reading import read
from onebranch.images.writing import write
from onebranch.runtime.selection import chosen
from onebranch.spec.shorthand import NetworkShorthand, expand

MODEL = random_model(
    expand(NetworkShorthand(task="upscale", width=2, depth=0, branches="plain")), name="small"
)
OPTIONS = Options(model=MODEL, threads=1)


def write_picture(path: Path, seed: int = 0, channels: int = 3) -> Path:
    """A random picture in a file."""
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 11, channels), np.uint8)
    write(Picture(pixels), path)
    return path


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    pictures = tmp_path / "in"
    pictures.mkdir()
    names = ["a.png", "b.jpg", "c.webp", "d.bmp", "e.tif", "f.gif"]
    for seed, name in enumerate(names):
        write_picture(pictures / name, seed)
    summary = enhance_files([pictures], tmp_path / "out" / "deep", OPTIONS)
    assert sorted(content(tmp_path / "out" / "deep")) == [*names[:-1], "f.png"]
    assert [done.job.source.name for done in summary.done] == names
    assert all((done.preview.before, done.preview.after) == ((9, 11), (18, 22)) for done in summary.done)
    assert {(done.preview.models, done.preview.runtime) for done in summary.done} == {
        (("small",), chosen(MODEL).runtime)
    }
    expected = enhance(pictures / "a.png", MODEL, threads=1)
    np.testing.assert_array_equal(read(tmp_path / "out" / "deep" / "a.png").pixels, expected.pixels)


def test_one_picture_into_one_file_or_a_folder(tmp_path: Path) -> None:
    source = write_picture(tmp_path / "one.png")
    enhance_files([source], tmp_path / "two.webp", OPTIONS)
    enhance_files([source], tmp_path / "folder", OPTIONS)
    (tmp_path / "dotted.folder").mkdir()
    enhance_files([source], tmp_path / "dotted.folder", OPTIONS)
    assert read(tmp_path / "two.webp").pixels.shape == (18, 22, 3)
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["one.png"]
    assert [p.name for p in (tmp_path / "dotted.folder").iterdir()] == ["one.png"]


def test_bad_pictures_among_good_ones_are_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    good = [write_picture(tmp_path / f"{n}.png", n) for n in range(3)]
    cut, text, absent = tmp_path / "cut.png", tmp_path / "text.jpg", tmp_path / "absent.png"
    cut.write_bytes(good[0].read_bytes()[:100])
    text.write_text("not a picture")
    shown = []
    paths = [cut, good[0], text, good[1], absent, good[2]]
    summary = enhance_files(paths, tmp_path / "out", OPTIONS, observer=BatchObserver(finished=shown.append))
    assert [done.job.source for done in summary.done] == good
    assert [failed.job.source for failed in summary.failed] == [cut, text, absent]
    assert all(failed.job.source.name in failed.reason for failed in summary.failed)
    assert all("\n" not in failed.reason for failed in summary.failed)
    assert tuple(shown) == summary.results
    assert [result.job.source for result in shown] == paths
    assert sorted(content(tmp_path / "out")) == ["0.png", "1.png", "2.png"]


def test_an_existing_result_stays_without_overwrite(tmp_path: Path) -> None:
    one, two = write_picture(tmp_path / "1.png", 1), write_picture(tmp_path / "2.png", 2)
    out = tmp_path / "out"
    out.mkdir()
    (out / "1.png").write_bytes(b"precious")
    summary = enhance_files([one, two], out, OPTIONS)
    assert [failed.job.source for failed in summary.failed] == [one]
    assert "exists" in summary.failed[0].reason
    assert (out / "1.png").read_bytes() == b"precious"
    assert not enhance_files([one, two], out, OPTIONS, FileOptions(overwrite=True)).failed
    assert read(out / "1.png").pixels.shape == (18, 22, 3)


def test_a_picture_is_never_overwritten_by_its_own_result(tmp_path: Path) -> None:
    source = write_picture(tmp_path / "1.png")
    before = source.read_bytes()
    for out in (tmp_path, source):
        summary = enhance_files([source], out, OPTIONS, FileOptions(overwrite=True))
        assert "is the picture itself" in summary.failed[0].reason
    assert source.read_bytes() == before


def test_two_pictures_with_one_result_are_refused_before_any_work(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    one, two = write_picture(tmp_path / "a" / "x.png"), write_picture(tmp_path / "b" / "X.PNG".lower())
    with pytest.raises(OnebranchError, match="would both become"):
        enhance_files([one, two], tmp_path / "out", OPTIONS)
    with pytest.raises(OnebranchError, match="would both become"):
        enhance_files(["x.jp2", "X.png"], "out", OPTIONS)
    assert not (tmp_path / "out").exists()


def test_several_pictures_need_a_folder(tmp_path: Path) -> None:
    with pytest.raises(OnebranchError, match="name a folder for several pictures"):
        enhance_files(["a.png", "b.png"], tmp_path / "out.png", OPTIONS)
    with pytest.raises(OnebranchError, match="name at least one"):
        enhance_files([], tmp_path, OPTIONS)
    (tmp_path / "file").write_text("")
    with pytest.raises(OnebranchError, match="cannot create the folder"):
        enhance_files(["a.png", "b.png"], tmp_path / "file", OPTIONS)


def test_results_that_their_format_cannot_hold_fail_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_picture(tmp_path / "1.png")
    wide = tmp_path / "wide.png"
    write(Picture(np.zeros((1, 9000, 1), np.uint8)), wide)
    shine = tmp_path / "shine.png"
    write(Picture(read(source).pixels, np.full((9, 11), 9, np.uint8)), shine)
    monkeypatch.setattr(Enhancer, "pipeline", None)  # any work would fail
    for path, target, reason in [
        (wide, "wide.webp", "WebP is limited to 16383"),
        (shine, "shine.jpg", "no transparency"),
    ]:
        summary = enhance_files([path], tmp_path / target, OPTIONS)
        assert reason in summary.failed[0].reason
    with pytest.raises(OnebranchError, match=r"unknown suffix '\.xyz'"):
        enhance_files([source], tmp_path / "1.xyz", OPTIONS)
    with pytest.raises(OnebranchError, match="quality 101"):
        enhance_files([source], tmp_path / "1.jpg", OPTIONS, FileOptions(Encoding(quality=101)))


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [write_picture(tmp_path / f"{n}.png", n) for n in range(2)]

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    summary = enhance_files(sources, tmp_path / "out", OPTIONS)
    assert len(summary.failed) == 2
    assert all("no space left on device" in failed.reason for failed in summary.failed)
    assert not (tmp_path / "out").exists()


def test_a_model_that_cannot_be_read_is_reported_before_any_work(tmp_path: Path) -> None:
    source = write_picture(tmp_path / "1.png")
    with pytest.raises(OnebranchError, match="neither a shipped model nor a file"):
        enhance_files([source], tmp_path / "out", Options(model="photo-x9"))
    (tmp_path / "bad.safetensors").write_bytes(b"junk")
    with pytest.raises(OnebranchError, match="neither a complete safetensors file nor an ONNX file"):
        enhance_files([source], tmp_path / "out", Options(model=tmp_path / "bad.safetensors"))
    assert not (tmp_path / "out").exists()


def test_too_large_a_picture_is_refused(tmp_path: Path) -> None:
    source = write_picture(tmp_path / "1.png")
    summary = enhance_files([source], tmp_path / "out", OPTIONS, FileOptions(max_pixels=50))
    assert "1.png" in summary.failed[0].reason


def test_odd_pictures_are_done_or_refused_in_one_line(shared_data: Path, tmp_path: Path) -> None:
    writing = FileOptions(max_pixels=4_000_000)
    done = 0
    for path in sorted(p for p in (shared_data / "odd").iterdir() if p.suffix != ".tsv"):
        (result,) = enhance_files([path], tmp_path / path.name / "x.png", OPTIONS, writing).results
        if isinstance(result, Failed):
            assert "\n" not in result.reason, path
            assert "fault in onebranch" not in result.reason, path
        else:
            done += 1
            assert result.preview.after == tuple(2 * side for side in result.preview.before)
    assert done > 50


@pytest.mark.parametrize(("source", "out"), [("a\0b.png", "out"), ("a.png", "o\0ut"), ("a.png", "o\0.png")])
def test_names_that_no_system_allows_are_refused(source: str, out: str) -> None:
    with pytest.raises(OnebranchError, match="cannot contain NUL"):
        enhance_files([source], out, Options())


def test_pictures_that_are_not_read_are_counted_in_the_summary(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write_picture(folder / "a.jpg")
    for name in ("b.heic", "c.HEIC", "d.jxl", "e.txt"):
        (folder / name).write_bytes(b"x")
    summary = enhance_files([folder], tmp_path / "out", OPTIONS)
    line = f"'{folder}': 2 .heic and 1 .jxl left out: these formats are not read; convert them to PNG or TIFF"
    assert summary.left_out == (line,)
    assert [done.job.source.name for done in summary.done] == ["a.jpg"]
    assert enhance_files([folder / "*.jpg"], tmp_path / "jpg", OPTIONS).left_out == ()
    assert "1 .jxl" in enhance_files([folder / "[ad]*"], tmp_path / "some", OPTIONS).left_out[0]
    (folder / "a.jpg").unlink()
    with pytest.raises(OnebranchError, match=r"no picture can be read; .*2 .heic and 1 .jxl left out"):
        enhance_files([folder], tmp_path / "none", OPTIONS)
    with pytest.raises(OnebranchError, match=r"no picture can be read; .*2 .heic left out"):
        enhance_files([folder / "*.[hH]*"], tmp_path / "none", OPTIONS)


@pytest.mark.skipif(os.name != "posix", reason="links and pipes are made so on POSIX systems only")
def test_names_of_pictures_that_are_no_files_are_said(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "folder.png").mkdir(parents=True)
    write_picture(folder / "a.png")
    (folder / "broken.png").symlink_to("missing.png")
    os.mkfifo(folder / "pipe.jpg")
    summary = enhance_files([folder], tmp_path / "out", OPTIONS)
    assert [done.job.source.name for done in summary.done] == ["a.png"]
    assert summary.left_out == (
        f"'{folder}/broken.png' is a link to a file that is missing: left out",
        f"'{folder}/pipe.jpg' is not a file: left out",
    )


def test_what_is_read_when_named_is_found_in_folders(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    first, second = Image.fromarray(pixels), Image.fromarray(pixels[::-1].copy())
    folder = tmp_path / "in"
    folder.mkdir()
    first.save(folder / "stereo.mpo", save_all=True, append_images=[second])
    first.save(folder / "moving.apng", format="PNG", save_all=True, append_images=[second])
    first.convert("1").save(folder / "bits.pbm", format="PPM")
    summary = enhance_files([folder], tmp_path / "out", OPTIONS)
    assert [result.job.target.name for result in summary.done] == ["bits.png", "moving.png", "stereo.png"]
    assert summary.left_out == () and not summary.failed


@pytest.mark.parametrize("kept_apart", [True, False])
def test_names_that_differ_only_in_their_unicode_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_apart: bool
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    names = [unicodedata.normalize(normal_form, "caf\u00e9.png") for normal_form in ("NFC", "NFD")]
    for seed, name in enumerate(names):
        if (folder / name).exists():
            pytest.skip("this file system does not keep such names apart")
        write_picture(folder / name, seed)
    write_picture(folder / "other.png", 2)
    if not kept_apart:
        monkeypatch.setattr(jobs, "_keeps_unicode_forms", lambda folder: False)
    summary = enhance_files([folder], tmp_path / "out", OPTIONS)
    assert len(summary.done) == (3 if kept_apart else 2)
    if kept_apart:
        assert sorted(content(tmp_path / "out")) == sorted([*names, "other.png"])
    else:
        (failed,) = summary.failed
        assert "caf\\xe9.png" in failed.reason and "cafe\\u0301.png" in failed.reason
        assert "--name" in failed.reason


def test_a_file_is_probed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_picture(tmp_path / "one.png")
    probed = []

    def counted(path: Path) -> Probe:
        probed.append(path)
        return probe(path)

    for module in (single_file, reading, jobs):
        monkeypatch.setattr(module, "probe", counted)
    enhance_files([source], tmp_path / "out", OPTIONS)
    assert probed == [source]
