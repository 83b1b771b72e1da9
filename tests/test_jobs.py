"""Which pictures are enhanced and where the results go: folders, patterns, lists, links, names, parts."""

import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from onebranch.enhancer.inputs import InputPicture, parse_list, sources_of
from onebranch.enhancer.jobs import Shard, jobs_for, parse_shard
from onebranch.enhancer.names import FIELDS, Naming
from onebranch.errors import OnebranchError
from onebranch.images.animation import Animation
from onebranch.images.picture import Picture
from onebranch.images.writing import write, write_animation

pytestmark = pytest.mark.fast


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of pictures `in`, in the working folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("b.PNG", "a.jpg", "note.txt", ".hid.png", "deep/c.ico", "deep/er/d.jp2", ".git/x.png"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def pictures_of(*paths: str, recursive: bool = False, results: tuple[str, ...] = ()) -> list[str]:
    sources = sources_of(paths, recursive, [Path(folder) for folder in results])
    return [source.path.as_posix() for source in sources.pictures]


def targets(sources: list[str], naming: Naming, **values: object) -> list[str]:
    measure = (lambda path: values) if values else None
    jobs = jobs_for([InputPicture(Path(path)) for path in sources], Path("out"), naming, measure)
    assert [job.problem for job in jobs] == [""] * len(jobs)
    return [job.target.as_posix() for job in jobs]


def test_folders_are_searched_as_deep_as_is_asked(tree: Path) -> None:
    assert pictures_of("in") == ["in/a.jpg", "in/b.PNG"]
    everything = ["in/a.jpg", "in/b.PNG", "in/deep/c.ico", "in/deep/er/d.jp2"]
    assert pictures_of("in", recursive=True) == everything
    jobs = jobs_for(sources_of(["in"], recursive=True).pictures, Path("out"))
    names = [job.target.as_posix() for job in jobs]
    assert names == ["out/a.jpg", "out/b.PNG", "out/deep/c.png", "out/deep/er/d.png"]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("in/*", ["in/a.jpg", "in/b.PNG"]),
        ("in/[a]*.jp?", ["in/a.jpg"]),
        ("in/**", ["in/a.jpg", "in/b.PNG", "in/deep/c.ico", "in/deep/er/d.jp2"]),
        ("in/**/d*", ["in/deep/er/d.jp2"]),
        ("i*/*/*.ico", ["in/deep/c.ico"]),
        ("**/*.jpg", ["in/a.jpg"]),
        ("./in/deep/../*.jpg", ["in/deep/../a.jpg"]),
    ],
)
def test_patterns_that_the_shell_left_alone(tree: Path, pattern: str, names: list[str]) -> None:
    assert pictures_of(pattern) == names
    assert pictures_of(str(tree / pattern)) == [str(tree / name) for name in names]


def test_a_file_of_that_very_name_wins_over_the_pattern(tree: Path) -> None:
    (tree / "in" / "[a].jpg").touch()
    assert pictures_of("in/[a].jpg") == ["in/[a].jpg"]


def test_a_pattern_mirrors_what_it_has_found_in_folders_only_if_asked(tree: Path) -> None:
    below = [str(source.below) for source in sources_of(["in/**/*.jp*"], recursive=True).pictures]
    assert below == [".", "deep/er"]
    assert {source.below for source in sources_of(["in/**/*.jp*"]).pictures} == {Path()}


@pytest.mark.parametrize("wrong", ["in/*.webp", "none/*.png", "in/?"])
def test_a_pattern_that_fits_nothing_is_an_error(tree: Path, wrong: str) -> None:
    with pytest.raises(OnebranchError, match="none that matches this pattern"):
        pictures_of(wrong)


def test_what_is_named_is_taken_once_and_as_it_is(tree: Path) -> None:
    assert pictures_of("in/note.txt", "in/a.jpg", "in", "absent.png") == [
        "in/note.txt",
        "in/a.jpg",
        "in/b.PNG",
        "absent.png",
    ]
    with pytest.raises(OnebranchError, match="a picture's name is empty"):
        pictures_of("")
    (tree / "empty").mkdir()
    with pytest.raises(OnebranchError, match="no picture in 'empty'"):
        pictures_of("in", "empty")


def test_links_that_lead_out_are_left_out_with_a_note(tree: Path) -> None:
    (tree / "out.png").touch()
    (tree / "else").mkdir()
    (tree / "else" / "e.png").touch()
    (tree / "in" / "out.png").symlink_to(tree / "out.png")
    (tree / "in" / "inside.png").symlink_to(tree / "in" / "b.PNG")
    (tree / "in" / "broken.png").symlink_to(tree / "in" / "nothing")
    one = sources_of(["in"])
    assert [source.path.name for source in one.pictures] == ["a.jpg", "b.PNG", "inside.png"]
    broken = "'in/broken.png' is a link to a file that is missing: left out"
    assert one.left_out == ("'in/out.png' is a link that leads out of 'in': left out", broken)
    (tree / "in" / "else").symlink_to(tree / "else", target_is_directory=True)
    (tree / "in" / "deep" / "loop").symlink_to(tree / "in", target_is_directory=True)
    for paths in (["in"], ["in/**"]):
        deep = sources_of(paths, recursive=True)
        assert [s.path.name for s in deep.pictures] == ["a.jpg", "b.PNG", "c.ico", "d.jp2", "inside.png"]
        assert deep.left_out == ("2 links lead out of 'in': left out, 'in/else' is the first", broken)
    assert pictures_of("in/out.png") == ["in/out.png"]  # it was named


def test_results_below_the_pictures_are_not_enhanced_again(tree: Path) -> None:
    (tree / "in" / "big").mkdir()
    (tree / "in" / "big" / "a.jpg").touch()
    assert "in/big/a.jpg" in pictures_of("in", recursive=True)
    assert "in/big/a.jpg" not in pictures_of("in", recursive=True, results=("in/big",))
    assert "in/big/a.jpg" not in pictures_of("in/**", results=("in/../in/big",))
    assert pictures_of("in/big", recursive=True, results=("in/big",)) == ["in/big/a.jpg"]


def test_results_beside_the_pictures_are_not_enhanced_again(tree: Path) -> None:
    (tree / "in" / "a_x2.jpg").touch()
    naming = Naming("{stem}_x2{suffix}")
    jobs = jobs_for(sources_of(["in"]).pictures, Path("in"), naming)
    assert [job.source.name for job in jobs] == ["a.jpg", "b.PNG"]
    named = [InputPicture(Path("in/a.jpg")), InputPicture(Path("in/a_x2.jpg"))]
    problems = [job.problem for job in jobs_for(named, Path("in"), naming)]
    assert problems == ["'in/a_x2.jpg' is itself one of the pictures; choose another name", ""]


def test_lists_hold_any_name() -> None:
    assert parse_list(b"a.png\r\n\n b.png") == ["a.png", " b.png"]
    assert parse_list(b"\xef\xbb\xbfa.png\n") == ["a.png"]
    assert parse_list(b"") == []
    if sys.platform == "linux":
        assert os.fsencode(parse_list(b"\xff.png")[0]) == b"\xff.png"


def test_names_by_a_template() -> None:
    assert targets(["a/x.jpg", "b/y.tga"], Naming("{parent}-{stem}_{index:03}{suffix}")) == [
        "out/a-x_001.jpg",
        "out/b-y_002.png",
    ]
    assert targets(["x.jpg"], Naming("{stem}{{}}.PNG")) == ["out/x{}.PNG"]
    assert targets(["x.jpg", "y.png"], Naming(file_format="WEBP")) == ["out/x.webp", "out/y.webp"]
    assert targets(["x.jpg"], Naming("{stem}.jpeg", ".jpg")) == ["out/x.jpeg"]
    named = Naming("{model}_x{scale}_{width}x{height:05}{suffix}")
    values = {"model": "photo-x2", "scale": "1.5", "width": 30, "height": 20}
    assert targets(["x.jpg"], named, **values) == ["out/photo-x2_x1.5_30x00020.jpg"]


@pytest.mark.parametrize(
    ("template", "suffix", "words"),
    [
        ("{name}{suffix}", None, "unknown field '{name}'"),
        ("{stme}{suffix}", None, "did you mean 'stem'"),
        ("{stem.__class__}{suffix}", None, "unknown field"),
        ("{}{suffix}", None, "unknown field '{}'"),
        ("{stem{suffix}", None, "is not a valid template|unknown field"),
        ("{stem}}{suffix}", None, "is not a valid template"),
        ("{stem!r}{suffix}", None, "only numbers can be padded"),
        ("{stem:>99999999}{suffix}", None, "only numbers can be padded"),
        ("{index:{width}}{suffix}", None, "only numbers can be padded"),
        ("x2/{stem}{suffix}", None, "leads into another folder"),
        ("{stem}_x2", None, "end it with {suffix}"),
        ("{stem}.png", "jpg", "is PNG, not JPEG"),
        (None, "jpgg", "did you mean 'jpg'"),
        (None, "", "unknown format ''"),
        (None, "jp2", "unknown format 'jp2'"),
    ],
)
def test_wrong_names_are_one_line(template: str | None, suffix: str | None, words: str) -> None:
    with pytest.raises(OnebranchError, match=words):
        Naming(template, suffix)


def test_every_field_is_explained() -> None:
    page = Path(__file__).parent.parent / "docs" / "guides" / "enhance.md"
    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| `{")]
    assert set(re.findall(r"`\{(\w+)\}`", "".join(rows))) == set(FIELDS)


def test_values_must_make_a_name() -> None:
    sources = [InputPicture(Path("x.jpg"))]
    (job,) = jobs_for(sources, Path("out"), Naming("{model}{suffix}"), lambda path: {"model": "a/b"})
    assert "which is not a file name" in job.problem
    (job,) = jobs_for([InputPicture(Path("x" * 250 + ".jpg"))], Path("out"), Naming("{stem}_x2{suffix}"))
    assert "more than 255 bytes" in job.problem
    assert not jobs_for([InputPicture(Path("x" * 251 + ".jpg"))], Path("out"))[0].problem
    assert jobs_for([InputPicture(Path("é" * 127 + ".jpg"))], Path("out"))[0].problem


@pytest.mark.parametrize("names", [("x.jp2", "X.png"), ("a/x.png", "b/x.png"), ("\u00e9.png", "E\u0301.png")])
def test_two_pictures_cannot_have_one_result(names: tuple[str, str]) -> None:
    with pytest.raises(OnebranchError, match="would both become"):
        targets(list(names), Naming())
    assert len(set(targets(list(names), Naming("{index}{suffix}")))) == 2


def test_an_animation_stays_one_and_a_still_gif_becomes_png(tmp_path: Path) -> None:
    frames = tuple(Picture(np.full((4, 4, 3), value, np.uint8)) for value in (0, 255))
    write_animation(Animation(frames, (100, 100), 0), tmp_path / "moves.gif")
    write(frames[0], tmp_path / "still.gif")
    paths = [str(tmp_path / name) for name in ("moves.gif", "still.gif", "absent.gif")]
    assert targets(paths, Naming()) == ["out/moves.gif", "out/still.png", "out/absent.png"]
    assert targets(paths, Naming(file_format="jpg"))[0] == "out/moves.jpg"


def test_parts_are_everything_once_and_stay_what_they_are_when_pictures_come() -> None:
    names = [f"{number}.png" for number in range(200)]
    for count in (1, 2, 4, 7):
        parts = [
            [name for name in names if Shard(part, count).contains(name)] for part in range(1, count + 1)
        ]
        assert sorted(name for part in parts for name in part) == sorted(names)
        assert min(len(part) for part in parts) > 100 / count


@pytest.mark.parametrize("text", ["", "1", "0/4", "5/4", "1/0", "-1/4", "a/b", "1/4/4", "1.0/4", "²/4"])
def test_wrong_parts_are_one_line(text: str) -> None:
    with pytest.raises(OnebranchError, match=r"not a shard|no part"):
        parse_shard(text)
