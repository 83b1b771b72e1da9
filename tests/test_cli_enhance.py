"""`onebranch enhance` as it is typed: what it prints, its exit codes, and that it never loads PyTorch."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_line import ENVIRONMENT, CommandLine, terminal_output
from network_specs import calm_model
from onebranch.enhancer.enhancer import enhance
from onebranch.images.picture import Picture
from onebranch.images.reading import read
from onebranch.images.writing import write
from onebranch.model import catalogue
from onebranch.model.file import Model
from onebranch.model.file import write as save
from onebranch.runtime.selection import chosen

UPSCALE = calm_model(task="upscale", scale=2)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small model in a file."""
    path = tmp_path / "small.safetensors"
    save(UPSCALE, path)
    return path


def failed(run: CommandLine, *words: object) -> str:
    """The one line of a command whose one picture fails; exit code 1."""
    done = run(*words)
    assert (done.code, done.output) == (1, ""), done.output
    assert done.errors.startswith("onebranch: ") and done.errors.count("\n") == 1, done.errors
    return done.errors


def test_a_picture_into_a_file(run: CommandLine, model: Path, crops: Path, tmp_path: Path) -> None:
    out = tmp_path / "big.png"
    done = run("enhance", crops / "sand.png", "-o", out, "--model", model, "--threads", 1)
    assert done.code == 0, done.errors
    assert "64x72 -> 128x144" in done.output
    assert "1 picture enhanced" in done.output
    assert f"small in {chosen(UPSCALE).runtime}, fp32" in done.output
    np.testing.assert_array_equal(read(out).pixels, enhance(crops / "sand.png", UPSCALE, threads=1).pixels)


def test_a_folder_with_a_bad_picture(run: CommandLine, model: Path, crops: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("sand.png", "fence.png"):
        (folder / name).write_bytes((crops / name).read_bytes())
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    done = run("enhance", folder, "-o", tmp_path / "out", "-m", model, "--scale", 1.5, "--threads", 1)
    assert done.code == 1
    assert done.errors.count("\n") == 1
    assert done.errors.startswith("onebranch: ") and "bad.png" in done.errors
    assert "bad.png" not in done.output
    assert "2 pictures enhanced" in done.output
    assert "1 failed" in done.output
    assert read(tmp_path / "out" / "sand.png").pixels.shape == (108, 96, 3)


def test_quiet_prints_failures_only(run: CommandLine, model: Path, crops: Path, tmp_path: Path) -> None:
    words = ("enhance", crops / "sand.png", "-o", tmp_path / "big.png", "-m", model, "-q", "--threads", 1)
    done = run(*words)
    assert (done.code, done.output, done.errors) == (0, "", "")
    assert "it exists" in failed(run, *words)
    assert run(*words, "--overwrite").code == 0


def test_every_option_reaches_the_picture(run: CommandLine, model: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    write(Picture(pixels), tmp_path / "in.png")
    options = ["--width", 60, "--height", 33, "--chroma", "bilinear", "--tile", 32, "--threads", 1]
    done = run("enhance", tmp_path / "in.png", "-o", tmp_path / "out.png", "-m", model, *options)
    assert done.code == 0, done.errors
    expected = enhance(Picture(pixels), UPSCALE, width=60, height=33, chroma="bilinear", tile=32, threads=1)
    np.testing.assert_array_equal(read(tmp_path / "out.png").pixels, expected.pixels)
    jpeg = [tmp_path / f"{quality}.jpg" for quality in (30, 95)]
    for path in jpeg:
        run("enhance", tmp_path / "in.png", "-o", path, "-m", model, "--quality", path.stem, "--threads", 1)
    assert jpeg[0].stat().st_size < jpeg[1].stat().st_size
    lossless = tmp_path / "out.webp"
    run("enhance", tmp_path / "in.png", "-o", lossless, "-m", model, "--lossless", "--threads", 1)
    plain = enhance(Picture(pixels), UPSCALE, threads=1)
    np.testing.assert_array_equal(read(lossless).pixels, plain.pixels)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "photo-x9"], "neither a shipped model nor a file; did you mean 'photo-x"),
        (["--model", "MODEL", "--runtime", "tensorrt"], "unknown runtime 'tensorrt'"),
        (["--model", "MODEL", "--scale", "-1"], "scale must be above 0"),
        (["--model", "MODEL", "--scale", "2", "--width", "9"], "contradict"),
        (["--model", "MODEL", "--chroma", "cubic"], "did you mean 'bicubic'"),
        (["--model", "MODEL", "--tile", "1"], "tile must be at least 8"),
        (["--model", "MODEL", "--threads", "0"], "threads must be at least 1"),
        (["--model", "MODEL", "--threads", "99999"], "threads must be at most 1024"),
        (["--model", "."], "it is a folder"),
        (["--model", "x" * 300], "File name too long"),
        (["--model", "MODEL", "--quality", "0"], "quality 0"),
    ],
)
def test_mistakes_are_one_line(
    run: CommandLine, model: Path, crops: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    typed = [str(model) if word == "MODEL" else word for word in words]
    assert message in run.refused("enhance", crops / "sand.png", "-o", tmp_path / "big.png", "-q", *typed)
    assert not (tmp_path / "big.png").exists()


def test_a_name_that_ends_with_a_slash_is_a_folder(
    run: CommandLine, model: Path, crops: Path, tmp_path: Path
) -> None:
    done = run("enhance", crops / "sand.png", "-o", f"{tmp_path}/v1.2/", "-m", model, "--threads", 1)
    assert done.code == 0 and (tmp_path / "v1.2" / "sand.png").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' file names are text")
def test_names_that_are_no_text_are_read_and_shown_escaped(
    run: CommandLine, model: Path, crops: Path, tmp_path: Path
) -> None:
    source = tmp_path / os.fsdecode(b"b\xff.png")
    shutil.copy(crops / "sand.png", source)
    done = run("enhance", source, "-o", tmp_path / "big", "-m", model, "--threads", 1)
    assert done.code == 0 and "b\\udcff.png" in done.output
    assert (tmp_path / "big" / source.name).exists()
    source.write_bytes(b"")
    assert "b\\udcff.png': it is empty" in failed(run, "enhance", source, "-o", tmp_path / "new", "-m", model)


def test_what_click_refuses_has_exit_code_2(run: CommandLine, crops: Path) -> None:
    assert run("enhance", crops / "sand.png").code == 2
    assert run("enhance", "--scale", "much", "x", "-o", "y").code == 2
    assert run("enhanse").code == 2


def test_enhancing_loads_no_torch(model: Path, crops: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None; from onebranch.cli import main; "
        f"sys.argv = ['onebranch', 'enhance', {str(crops / 'sand.png')!r}, '-o', "
        f"{str(tmp_path / 'o.png')!r}, '-m', {str(model)!r}]; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert (tmp_path / "o.png").exists()


def test_runtime_torch_gives_the_same_picture(
    run: CommandLine, model: Path, crops: Path, tmp_path: Path
) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: --runtime torch was not run")
    for runtime in ("onnxruntime", "torch"):
        words = ("--runtime", runtime, "--threads", 1)
        done = run("enhance", crops / "sand.png", "-o", tmp_path / f"{runtime}.png", "-m", model, *words)
        assert f"in {runtime}" in done.output
    one, other = (read(tmp_path / f"{name}.png").pixels.astype(int) for name in ("onnxruntime", "torch"))
    assert np.abs(one - other).max() <= 1
    assert np.mean(one != other) < 1e-3


def test_a_denoising_models_help_says_what_happens_to_chroma(run: CommandLine) -> None:
    assert "chroma is interpolated, or unchanged if the size is" in " ".join(
        run("enhance", "--help").output.split()
    )


def test_the_default_model_is_restore_x2(
    run: CommandLine, crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "MODELS_FOLDER", tmp_path)
    save(Model(UPSCALE.spec, UPSCALE.weights), tmp_path / "restore-x2.safetensors")
    done = run("enhance", crops / "sand.png", "-o", tmp_path / "big.png", "--threads", 1)
    assert f"restore-x2 in {chosen(UPSCALE).runtime}" in done.output


@pytest.fixture
def folder(crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `in` of two pictures and a bad one, in the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for name in ("sand.png", "fence.png"):
        shutil.copy(crops / name, tmp_path / "in" / name)
    (tmp_path / "in" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    return tmp_path


def test_json_is_all_that_stdout_gets(run: CommandLine, model: Path, folder: Path) -> None:
    for words in ((), ("--quiet",), ("--dry-run",)):
        done = run("enhance", "in", "-o", "out", "-m", model, "--threads", 1, "--json", "--overwrite", *words)
        assert done.code == 1
        *pictures, last = [json.loads(line) for line in done.output.splitlines()]
        status = "previewed" if words == ("--dry-run",) else "done"
        assert [entry["status"] for entry in pictures] == ["failed", status, status]
        assert pictures[0]["reason"] in done.errors and done.errors.count("\n") == 1
        sand = pictures[2]
        assert (sand["picture"], sand["result"]) == (str(Path("in/sand.png")), str(Path("out/sand.png")))
        assert (sand["before"], sand["after"]) == ([64, 72], [128, 144])
        assert (sand["models"], sand["runtime"], sand["precision"]) == (
            ["small"],
            chosen(UPSCALE).runtime,
            "fp32",
        )
        assert last["summary"][status] == 2 and last["summary"]["failed"] == 1
    assert sand["memory_bytes"] > 0 and sand["network_seconds"] > 0


def test_a_dry_run_says_what_would_happen_and_makes_nothing(
    run: CommandLine, model: Path, folder: Path
) -> None:
    before = sorted(folder.rglob("*"))
    done = run("enhance", "in", "-o", "out/deep", "-m", model, "--dry-run", "--format", "jpg", "--resume")
    assert done.code == 1 and "bad.png" in done.errors
    assert f"64x72 -> 128x144, would become {Path('out/deep/sand.jpg')}" in done.output
    assert re.search(r"small in \w+, fp32; (about \d+|under 1) ms in the network; about \d+ MB", done.output)
    assert "2 pictures would be enhanced; " in done.output and "1 would fail" in done.output
    assert sorted(folder.rglob("*")) == before


def test_a_dry_run_says_which_results_exist(run: CommandLine, model: Path, folder: Path) -> None:
    (folder / "out").mkdir()
    for name in ("sand.png", "fence.png"):
        (folder / "out" / name).write_bytes(b"a result")
    words = ("enhance", "in/sand.png", "in/fence.png", "-o", "out", "-m", model, "--dry-run")
    done = run(*words)
    refused = "2 would be refused: results exist (--overwrite replaces them)"
    assert done.code == 1 and done.output.splitlines()[-1] == f"0 pictures would be enhanced; {refused}"
    assert "2 pictures would be enhanced" in run(*words, "--overwrite").output


def test_lists_name_pictures(
    run: CommandLine, model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "list").write_bytes(b"in/sand.png\n\nin/fence.png\n")
    words = ("-m", model, "--threads", 1, "-q")
    assert run("enhance", "--list", "list", "-o", "one", *words).code == 0
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"in/sand.png\0in/none.png\0")))
    done = run("enhance", "in/fence.png", "--list", "-", "-o", "two", *words)
    assert done.code == 1 and "none.png" in done.errors
    for out in ("one", "two"):
        assert sorted(path.name for path in (folder / out).iterdir()) == ["fence.png", "sand.png"]
    assert "cannot read the list 'absent'" in run.refused("enhance", "--list", "absent", "-o", "x")


def through(model: Path, content: bytes, *words: object) -> subprocess.CompletedProcess[bytes]:
    """A command with these bytes as its standard input."""
    line = ["enhance", *(str(word) for word in words), "-m", str(model), "--threads", "1"]
    code = "from onebranch.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *line], input=content, capture_output=True, check=False, env=ENVIRONMENT
    )


def test_standard_input_and_output_are_pictures(model: Path, folder: Path) -> None:
    content = (folder / "in" / "sand.png").read_bytes()
    expected = enhance(folder / "in" / "sand.png", UPSCALE, threads=1).pixels
    done = through(model, content, "-", "-o", "-")
    assert (done.returncode, done.stderr) == (0, b"")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(done.stdout))), expected)
    done = through(model, b"", folder / "in" / "sand.png", "-o", "-", "--format", "webp", "--lossless")
    with Image.open(io.BytesIO(done.stdout)) as image:
        assert image.format == "WEBP"
        np.testing.assert_array_equal(np.asarray(image), expected)
    done = through(model, content, "-", "-o", folder / "out", "--format", "tif")
    assert done.returncode == 0 and b"standard input: 64x72 -> 128x144" in done.stdout
    np.testing.assert_array_equal(read(folder / "out" / "stdin.tif").pixels, expected)
    assert sorted(path.name for path in folder.iterdir()) == ["in", "out", "small.safetensors"]


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".gif"])
def test_standard_input_keeps_its_format_in_a_folder(model: Path, folder: Path, suffix: str) -> None:
    content = io.BytesIO()
    first = Image.open(folder / "in" / "sand.png").convert("RGB")
    options = {"save_all": True, "append_images": [first.rotate(180)]} if suffix == ".gif" else {}
    first.save(content, {".jpg": "JPEG"}.get(suffix, suffix[1:]), **options)
    done = through(model, content.getvalue(), "-", "-o", folder / "out")
    assert done.returncode == 0 and done.stdout.startswith(b"standard input: 64x72 -> 128x144"), done.stderr
    assert [path.name for path in (folder / "out").iterdir()] == [f"stdin{suffix}"]


@pytest.mark.parametrize(
    ("content", "words", "message"),
    [
        (b"", ["-", "-o", "-"], b"'standard input': it is empty"),
        (b"junk", ["-", "-o", "x.png"], b"cannot read 'standard input': it is not a PNG"),
        (b"", ["in", "-o", "-"], b"takes one picture; name a folder"),
        (b"", ["in/sand.png", "-o", "-", "--json"], b"--json cannot be used with standard output"),
        (b"", ["in/sand.png", "-o", "-", "--name", "x{suffix}"], b"--name cannot be used with standard"),
        (b"", ["-", "-", "-o", "out"], b"can be one picture only"),
        (b"", ["in/bad.png", "-o", "-"], b"bad.png"),
        (b"in/sand.png", ["-", "--list", "-", "-o", "out"], b"is the list (--list -), so it cannot also be"),
        (b"in/sand.png\n-\n", ["--list", "-", "-o", "out"], b"is the list (--list -), so it cannot also be"),
    ],
)
def test_wrong_standard_streams_are_one_line(
    model: Path, folder: Path, content: bytes, words: list[str], message: bytes
) -> None:
    done = through(model, content, *words)
    assert done.returncode in (1, 2) and done.stdout == b""
    assert message in done.stderr and done.stderr.count(b"\n") == 1, done.stderr


def test_names_patterns_and_comparisons(run: CommandLine, model: Path, folder: Path) -> None:
    options = ("--name", "{stem}_x{scale}_{model}_{width}{suffix}", "--format", "webp", "--compare", "side")
    done = run("enhance", "in/[sf]*", "-o", "out", "-m", model, "--threads", 1, *options)
    assert (done.code, done.errors) == (0, "")
    names = [f"{stem}_x2_small_{width}" for stem, width in (("fence", 192), ("sand", 128))]
    assert sorted(path.name for path in (folder / "out").iterdir()) == [f"{name}.webp" for name in names]
    assert sorted(path.name for path in (folder / "side").iterdir()) == [
        f"{name}_compared.png" for name in names
    ]
    assert "comparison: side" in done.output and "2 pictures enhanced" in done.output


def test_resuming_and_parts_are_reported(run: CommandLine, model: Path, folder: Path) -> None:
    (folder / "in" / "bad.png").unlink()
    words = ("enhance", "in", "-o", "out", "-m", model, "--threads", 1)
    codes = [run(*words, "--shard", f"{part}/3").code for part in (1, 2, 3)]
    assert codes == [0, 0, 0]
    done = run(*words, "--resume")
    assert done.code == 0
    assert done.output.count("done before") == 3 and "0 pictures enhanced" in done.output


def test_encoding_and_options_reach_the_file(run: CommandLine, model: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8825)[1] = "N"  # of the place
    Image.fromarray(pixels).save(tmp_path / "in.jpg", exif=exif, quality=95)

    def kept_tags(name: str) -> tuple[bool, bool]:
        """Whether the file holds the name of the maker, and the location."""
        with Image.open(tmp_path / name) as image:
            tags = image.getexif()
            return 0x010F in tags, 1 in tags.get_ifd(0x8825)

    def made(name: str, *words: object) -> bytes:
        done = run("enhance", tmp_path / "in.jpg", "-o", tmp_path / name, "-m", model, "--threads", 1, *words)
        assert done.code == 0, done.errors
        return (tmp_path / name).read_bytes()

    assert len(made("420.jpg", "--subsampling", "420")) < len(made("444.jpg", "--subsampling", "444"))
    for compression, name in (("none", "raw"), ("lzw", "tiff_lzw"), ("deflate", "tiff_adobe_deflate")):
        made(f"{name}.tif", "--compression", compression)
        with Image.open(tmp_path / f"{name}.tif") as image:
            assert image.info["compression"] == name
    assert len(made("9.png", "--level", 9)) < len(made("0.png", "--level", 0))
    made("kept.jpg"), made("nowhere.jpg", "--strip-location"), made("bare.jpg", "--strip")
    assert [kept_tags(f"{name}.jpg") for name in ("kept", "nowhere", "bare")] == [
        (True, True),
        (True, False),
        (False, False),
    ]
    for option in ("wrap", "self_ensemble"):
        made(f"{option}.png", f"--{option.replace('_', '-')}")
        expected = enhance(tmp_path / "in.jpg", UPSCALE, threads=1, **{option: True})
        np.testing.assert_array_equal(read(tmp_path / f"{option}.png").pixels, expected.pixels)
    made("half.png", "--strength", 0.5)
    expected = enhance(tmp_path / "in.jpg", UPSCALE, threads=1, strength=0.5)
    np.testing.assert_array_equal(read(tmp_path / "half.png").pixels, expected.pixels)
    small = ("--memory", "120M")
    assert made("small.png", *small) == made("usual.png")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([""], "a picture's name is empty"),
        (["none*.png"], "none that matches this pattern"),
        (["in", "--jobs", "0"], "jobs must be 1 to 256"),
        (["in", "--shard", "3/2"], "there is no part 3/2"),
        (["in", "--name", "{steem}{suffix}"], "did you mean 'stem'"),
        (["in", "--format", "jpgg"], "did you mean 'jpg'"),
        (["in", "--format", "jpg", "--lossless"], "losslessly: JPEG is always lossy"),
        (["in/sand.png", "--lossless", "-o", "x.jpg"], "losslessly: JPEG is always lossy"),
        (["in", "--format", "png", "--name", "same.png"], "would both become"),
        (["in", "--compression", "zip"], "unknown compression of TIFF 'zip'"),
        (["in", "--subsampling", "422"], "unknown chroma subsampling '422'"),
        (["in", "--level", "10"], "level 10 is out of range"),
        (["in", "--memory", "lots"], "is not a size of memory"),
        (["in", "--precision", "fp16"], "unknown precision 'fp16'; valid: auto, fp32, bf16, int8"),
        (["in", "-o", ""], "the name of the output folder is empty"),
        (["in", "-o", "in/sand.png/x"], "is not a folder"),
        (["in", "--compare", "x.png"], "names a picture"),
        ([], "there is no picture to enhance"),
    ],
)
def test_wrong_calls_begin_nothing(
    run: CommandLine, model: Path, folder: Path, words: list[str], message: str
) -> None:
    before = sorted(folder.rglob("*"))
    out = [] if "-o" in words else ["-o", "out"]
    assert message in run.refused("enhance", *words, *out, "-m", model)
    assert sorted(folder.rglob("*")) == before


def test_notes_are_counted_in_the_summary(run: CommandLine, model: Path, folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (8, 8, 3), np.uint16)
    for name in ("a", "b"):
        write(Picture(pixels), folder / f"{name}.png")
    done = run("enhance", "a.png", "b.png", "-o", "out", "-m", model, "--format", "jpg", "--threads", 1)
    assert done.output.splitlines()[-1] == "  2 pictures: 16 bits become 8 bits: JPEG cannot hold more"
    done = run("enhance", "a.png", "-o", "one.jpg", "-m", model, "--threads", 1)
    assert done.output.count("16 bits become 8 bits") == 1
    assert "1 picture enhanced in" in done.output


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are Linux's")
def test_any_name_works(run: CommandLine, model: Path, crops: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    names = [
        "größe 漢字 🖼.png",
        "x" * 251 + ".png",
        "-q.png",
        "*.png",
        "new\nline.png",
        os.fsdecode(b"\xff\xfe.png"),
    ]
    for name in names:
        shutil.copy(crops / "sand.png", tmp_path / "in" / name)
    done = run("enhance", tmp_path / "in", "-o", tmp_path / "out", "-m", model, "--threads", 1, "--resume")
    assert (done.code, done.errors) == (0, "")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*names, "onebranch.jsonl"}
    assert len(done.output.splitlines()) == len(names) + 1
    done = run(
        "enhance", tmp_path / "in", "-o", tmp_path / "o", "-m", model, "--name", "{stem}_x2{suffix}", "-q"
    )
    assert done.code == 1 and "more than 255 bytes" in done.errors and done.errors.count("\n") == 1


@pytest.mark.skipif(os.name != "posix", reason="signals are sent so on POSIX systems only")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_one_line_and_leaves_nothing_half_written(
    model: Path, crops: Path, tmp_path: Path, sent: signal.Signals
) -> None:
    (tmp_path / "in").mkdir()
    for number in range(300):
        shutil.copy(crops / "sand.png", tmp_path / "in" / f"{number}.png")
    words = ["enhance", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-m", str(model), "--jobs", "2"]
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # or ignored
    running = subprocess.Popen(
        [sys.executable, "-u", "-c", f"{heard}; from onebranch.cli import main; main()", *words],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    running.stdout.readline()
    running.send_signal(sent)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130, errors
    assert re.fullmatch(r"onebranch: stopped; \d+ pictures? enhanced, none is half-written\n", errors)
    made = list((tmp_path / "out").iterdir())
    assert 0 < len(made) < 300
    assert len({path.read_bytes() for path in made}) == 1 and made[0].suffix == ".png"


@pytest.mark.skipif(os.name != "posix", reason="terminals are made so on POSIX systems only")
def test_a_terminal_shows_progress_and_other_outputs_do_not(model: Path, folder: Path) -> None:
    (folder / "in" / "bad.png").unlink()
    code = (
        "import sys; from onebranch.cli import main, enhance_screen; enhance_screen.DELAY_SECONDS = -1; "
        f"sys.argv = ['onebranch', 'enhance', 'in', '-o', sys.argv[1], '-m', {str(model)!r}]; main(); "
    )
    shown = terminal_output(code, "one", columns=200, folder=folder)
    assert b"2/2" in shown and b"sand.png" in shown
    assert [shown.count(line) for line in (b"in/fence.png: ", b"in/sand.png: ", b"2 pictures enhanced")] == [
        1
    ] * 3
    words = [sys.executable, "-c", code, "two"]
    plain = subprocess.run(words, capture_output=True, env=ENVIRONMENT, check=True, cwd=folder)
    assert b"/2" not in plain.stdout and plain.stderr == b"" and b"\x1b" not in plain.stdout


@pytest.mark.skipif(os.name != "posix", reason="terminals are made so on POSIX systems only")
@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_progress_is_shown_before_the_first_rows_are_done(
    model: Path, folder: Path, options: list[str]
) -> None:
    """A slow network, and pictures that are only looked at: the line does not wait for them."""
    (folder / "in" / "bad.png").unlink()
    code = f"""
import sys, time
from onebranch.cli import main, enhance_screen
from onebranch.enhancer.enhancer import Enhancer
enhance_screen.DELAY_SECONDS = 0
size_of_result = Enhancer.size_of_result
def slow(self, picture):
    time.sleep(0.7)
    return size_of_result(self, picture)
Enhancer.size_of_result = slow
words = ["in", "-o", sys.argv[1], "--jobs", "1", "-m", {str(model)!r}, *{options!r}]
sys.argv = ["onebranch", "enhance", *words]
main()
"""
    shown = terminal_output(code, "one", columns=200, folder=folder)
    assert b"0/2" in shown.partition(b"in/fence.png: ")[0]
