"""The outcome for each of the 94 odd files, as listed in odd_files.tsv: how it is read, or why it is refused.

Reading and enhancing run in a monitored process: no crash or console output, at most 10 s and 1 GB.
odd_truth.tsv names the files that Pillow or OpenCV can verify, with tolerances for their samples.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from onebranch.errors import OnebranchError
from onebranch.images.picture import Picture
from onebranch.images.reading import read
from reading_worker import Worker


def table(name: str) -> dict[str, list[str]]:
    lines = (Path(__file__).parent / name).read_text().splitlines()
    return {number: columns for number, *columns in (line.split("\t") for line in lines)}


OUTCOMES = table("odd_files.tsv")
TRUTH = table("odd_truth.tsv")


@pytest.fixture(scope="module")
def reading() -> Iterator[Worker]:
    with Worker("whole") as worker:
        yield worker


@pytest.fixture(scope="module")
def enhancing() -> Iterator[Worker]:
    with Worker("enhanced") as worker:
        yield worker


def odd_file(shared_data: Path, number: str) -> Path:
    (path,) = (shared_data / "odd").glob(f"{number}_*")
    return path


def test_the_table_names_every_odd_file(shared_data):
    files = {path.name[:3] for path in (shared_data / "odd").iterdir() if path.suffix != ".tsv"}
    assert files == set(OUTCOMES)
    assert len(OUTCOMES) == 94


@pytest.mark.parametrize("number", OUTCOMES)
def test_odd_files_end_as_the_table_says(shared_data, reading, number):
    answer = reading.ask(odd_file(shared_data, number))
    assert answer.fault == ""
    assert [cell.removeprefix("cannot read 'FILE': ") for cell in answer.outcome] == OUTCOMES[number]


@pytest.mark.parametrize("number", [number for number, row in OUTCOMES.items() if row[0] == "refused"])
def test_why_an_odd_file_is_refused_does_not_depend_on_where_it_lies(shared_data, tmp_path, number):
    path = odd_file(shared_data, number)
    for length in (1, 40, 80, 120, 160, 200):
        folder = tmp_path / ("d" * length)
        folder.mkdir()
        there = folder / path.name
        there.symlink_to(path)
        with pytest.raises(OnebranchError) as refused:
            read(there)
        assert str(refused.value) == f"cannot read '{there}': {OUTCOMES[number][1]}"


def _slow_if_large(number: str) -> Any:
    """The number of a file; its test is a slow one if the picture has more than four megapixels."""
    width, height = map(int, OUTCOMES[number][1].split("x")) if OUTCOMES[number][0] == "read" else (0, 0)
    return pytest.param(number, marks=pytest.mark.slow if width * height > 4_000_000 else [])


@pytest.mark.parametrize("number", [_slow_if_large(number) for number in OUTCOMES])
def test_odd_files_are_enhanced_to_the_same_kind_or_refused(shared_data, enhancing, number):
    answer = enhancing.ask(odd_file(shared_data, number), seconds=60)
    assert answer.fault == ""
    what, *columns = OUTCOMES[number]
    if what == "refused":
        assert answer.outcome == ["refused", f"cannot read 'FILE': {columns[0]}"]
    else:
        width, height = map(int, columns[0].split("x"))
        assert answer.outcome == ["enhanced", f"{2 * width}x{2 * height}", *columns[1:4]]


def test_every_file_that_is_read_as_it_is_has_a_judge_or_a_reason():
    as_it_is = {number for number, row in OUTCOMES.items() if row[0] == "read" and row[6] == "-"}
    assert set(TRUTH) == as_it_is
    assert sum(judge != "nobody" for judge, *_ in TRUTH.values()) >= 55


@pytest.mark.parametrize("number", [number for number, (judge, *_) in TRUTH.items() if judge != "nobody"])
def test_other_decoders_read_the_same_samples(shared_data, number):
    judge, mean, most = TRUTH[number][:3]
    path = odd_file(shared_data, number)
    decoded = read(path)
    theirs = JUDGES[judge](path, decoded)
    ours = decoded.pixels if theirs.shape[2] == decoded.channels else decoded.samples()
    assert theirs.shape == ours.shape
    assert theirs.dtype == ours.dtype
    shown = ... if decoded.alpha is None else decoded.alpha > 0
    difference = np.abs(theirs.astype(int) - ours)[shown]
    assert difference.max(initial=0) <= int(most)
    assert difference.size == 0 or difference.mean() <= float(mean)


def by_pillow(path: Path, decoded: Picture) -> np.ndarray:
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image)
        if decoded.pixels.dtype == np.uint16:
            return np.asarray(upright).astype(np.uint16)[..., None]
        mode = ("L" if decoded.channels == 1 else "RGB") + ("" if decoded.alpha is None else "A")
        return np.atleast_3d(np.asarray(upright.convert(mode)))


def by_opencv(path: Path, decoded: Picture) -> np.ndarray:
    cv2 = pytest.importorskip("cv2")
    samples = np.atleast_3d(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
    if decoded.channels == 1:  # grey with alpha comes as BGRA
        return samples[..., :: 3 if decoded.alpha is not None else 1][..., :2]
    return samples[..., [2, 1, 0, 3][: samples.shape[2]]]


JUDGES = {"Pillow": by_pillow, "OpenCV": by_opencv}


def test_alpha_that_is_multiplied_in_is_divided_out(shared_data):
    """Pillow divides too, in 8 bits; multiplied in again its colours and ours must be near."""
    path = odd_file(shared_data, "098")
    decoded = read(path)
    theirs = by_eight_bits(path)
    ours = decoded.samples() / 257
    np.testing.assert_allclose(ours[..., 3], theirs[..., 3], atol=1)
    multiplied = [samples[..., :3] * samples[..., 3:] / 255 for samples in (ours, theirs)]
    assert ours[..., 3].max() > 128
    assert np.abs(multiplied[0] - multiplied[1]).max() < 2


def by_eight_bits(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGBA")).astype(float)


@pytest.mark.parametrize("number", ["034", "037", "103"])
def test_colours_through_profiles_are_those_of_pillow(shared_data, number):
    """Both use Little CMS: ours converts through Lab in float, Pillow's straight to sRGB in 8 bits."""
    path = odd_file(shared_data, number)
    decoded = read(path)
    with Image.open(path) as image:
        given = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        colours = image.convert("RGB") if image.mode == "RGBA" else image
        theirs = ImageCms.profileToProfile(
            colours, given, ImageCms.createProfile("sRGB"), ImageCms.Intent.RELATIVE_COLORIMETRIC, "RGB"
        )
    difference = np.abs(np.asarray(theirs) - 255.0 * decoded.pixels.clip(0, 1))
    assert difference.mean() < 1


def test_lab_is_near_the_picture_that_it_was_made_of(shared_data):
    lab, original = (read(odd_file(shared_data, number)) for number in ("101", "143"))
    difference = np.abs(255 * lab.pixels.clip(0, 1) - original.pixels)
    assert difference.mean() < 2
