"""`onebranch enhance` as it is typed: what it prints, its exit codes, and that it never loads PyTorch."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import onebranch
from command_line import CommandLine
from network_specs import calm_model
from onebranch.enhancer.picture import enhance
from onebranch.images.picture import Picture
from onebranch.images.reading import read
from onebranch.images.writing import write
from onebranch.model import catalogue
from onebranch.model.file import Model
from onebranch.model.file import write as save
from onebranch.runtime.selection import chosen

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(onebranch.__file__).parent.parent)}

UPSCALE = calm_model(task="upscale", scale=2)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


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
    assert "leaves it as it is" in " ".join(run("enhance", "--help").output.split())


def test_the_default_model_is_photo_x2(
    run: CommandLine, crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "FOLDER", tmp_path)
    save(Model(UPSCALE.spec, UPSCALE.weights), tmp_path / "photo-x2.safetensors")
    done = run("enhance", crops / "sand.png", "-o", tmp_path / "big.png", "--threads", 1)
    assert f"photo-x2 in {chosen(UPSCALE).runtime}" in done.output
