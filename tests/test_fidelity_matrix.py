"""What enhancing keeps of a picture: the matrix of `fidelity`, case by case, and the page that shows it."""

import re
from pathlib import Path

import numpy as np
import pytest

from colour_profiles import delta_e, profile
from fidelity import ENHANCER, LIMIT, PRESS, Case, cases, lab_of_cmyk, measured, tables
from onebranch.enhancer.single_file import FileOptions, enhance_file
from onebranch.images.libvips import pyvips

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "pictures.md"


@pytest.mark.parametrize("case", cases(), ids=str)
def test_what_comes_out_is_what_went_in(case):
    measurement = measured(case)
    before, after = measurement.before, measurement.after
    height, width = before.samples.shape[:2]
    assert after.samples.shape[:2] == (2 * height, 2 * width)
    assert (before.mode, before.depth, before.alpha) == (case.shown_mode, case.depth, case.alpha)
    assert (after.mode, after.depth, after.alpha) == (case.kept_mode, case.kept_depth, case.alpha)
    assert after.orientation == 1
    assert after.icc == expected_profile(case)
    assert measurement.difference < case.limit
    hard = (
        0.05 if case.target == "GIF" else 0.02 if case.mode == "palette" else 0.01
    )  # edges that come in or out
    assert measurement.alpha < hard
    for word, differs in (("become", case.kept_depth != case.depth), ("sRGB", turns_srgb(case))):
        assert any(word in note for note in measurement.notes) or not differs


def expected_profile(case: Case) -> bytes | None:
    """The profile of the source, where the result keeps it; a CMYK picture without one stays without."""
    if case.kept_mode == "CMYK":
        return profile(case.profile) if case.profile else None
    return profile(case.kept_profile) if case.kept_profile else None


def turns_srgb(case: Case) -> bool:
    """Whether colours are converted because the format cannot hold them."""
    return case.profile != case.kept_profile or (case.mode in ("CMYK", "Lab") and case.kept_mode == "RGB")


def test_the_page_shows_what_is_measured():
    """Differences have one decimal; here they may be off by half of it, and a little."""
    page = PAGE.read_text(encoding="utf-8")
    number = re.compile(r"(?<![\w.-])\d\.\d(?!\w)")
    for name, table in tables().items():
        match = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- end -->", page, re.DOTALL)
        assert match, f"the page has no table of {name}; run scripts/picture_tables.py"
        assert number.sub("x", match[1]) == number.sub("x", table), "run scripts/picture_tables.py"
        shown, now = ([float(each) for each in number.findall(text)] for text in (match[1], table))
        np.testing.assert_allclose(shown, now, atol=0.101, err_msg="run scripts/picture_tables.py")


def test_a_profile_of_ink_has_a_loss_of_its_own():
    """Why CMYK has a limit of its own: from ink to colour and back, without anything in between."""
    case = next(case for case in cases() if case.mode == "CMYK" and case.depth == "uint16")
    ink = measured(case).before.samples
    there = np.ascontiguousarray(lab_of_cmyk(ink), np.float32)
    image = pyvips.Image.new_from_memory(there.tobytes(), ink.shape[1], ink.shape[0], 3, "float")
    again = image.copy(interpretation="lab").icc_export(output_profile="cmyk", depth=16, intent="relative")
    assert 1.2 < delta_e(there, lab_of_cmyk(again.numpy() / 65535)).mean() < PRESS


@pytest.mark.parametrize(("number", "route"), [("032", ""), ("034", "profile"), ("029", ""), ("037", "CMYK")])
def test_pictures_found_in_the_wild_keep_their_colours(shared_data, tmp_path, number, route):
    """By their own profiles and Little CMS: Display P3, the permuting one, a photograph, CMYK."""
    (source,) = (shared_data / "odd").glob(f"{number}_*")
    target = tmp_path / f"out{source.suffix}"
    enhance_file(source, target, ENHANCER, FileOptions())
    before, after = (pyvips.Image.new_from_file(str(path)) for path in (source, target))
    assert (after.width, after.height) == (2 * before.width, 2 * before.height)
    assert (after.format, after.bands) == (before.format, before.bands)
    assert after.get("icc-profile-data") == before.get("icc-profile-data")
    opaque = before.hasalpha()
    reduced = (after.premultiply() if opaque else after).shrink(2, 2)
    reduced = reduced.unpremultiply() if opaque else reduced
    reduced = reduced.rint().cast(before.format).copy(interpretation=before.interpretation)
    lab = [image.icc_import(embedded=True, pcs="lab", intent="relative") for image in (before, reduced)]
    differences = lab[0][:3].dE00(lab[1][:3])
    seen = before[before.bands - 1] / 255 if opaque else differences * 0 + 1
    assert (differences * seen).avg() / seen.avg() < (PRESS if route == "CMYK" else LIMIT)
