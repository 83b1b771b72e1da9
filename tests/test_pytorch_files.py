"""Networks of other programs as PyTorch and safetensors weights: read, converted, merged, run; or refused."""

import hashlib
import json
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file

import torchvision_placeholder
from command_line import CommandLine
from foreign import exported
from onebranch import extras
from onebranch.enhancer.enhancer import Enhancer, enhance
from onebranch.enhancer.options import Options
from onebranch.errors import OnebranchError
from onebranch.images.picture import Picture
from onebranch.model.catalogue import CATALOGUE, load
from onebranch.model.file import write
from onebranch.model.foreign import read_foreign
from onebranch.model.third_party import is_pytorch_file
from onebranch.pytorch_files import conversion as pytorch_conversion
from onebranch.pytorch_files.conversion import converted
from onebranch.pytorch_files.reading import imported_spandrel, read_pytorch
from onebranch.quantization.third_party import as_model
from onebranch.runtime.selection import open_runtime
from onebranch.user_cache import store
from random_weights import randomize

torchvision_placeholder.install()

NETWORKS = {
    "Compact": ("Compact.__arch.SRVGG", "SRVGGNetCompact", dict(num_feat=8, num_conv=2, upscale=2)),
    "SPAN": (
        "SPAN.__arch.span",
        "SPAN",
        dict(num_in_ch=3, num_out_ch=3, feature_channels=8, upscale=2, norm=False),
    ),
    "ESRGAN": ("ESRGAN.__arch.RRDB", "RRDBNet", dict(num_filters=8, num_blocks=1, scale=2)),
}
"""Module, class and size of small networks of the architectures that people share most."""


def network(name: str) -> torch.nn.Module:
    """The small network with random weights, always the same, in evaluation mode."""
    import importlib

    module, kind, options = NETWORKS[name]
    architecture = importlib.import_module(f"spandrel.architectures.{module}")
    return randomize(getattr(architecture, kind)(**options)).eval()


def cloned(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The module's tensors, none of which shares memory with another."""
    return {name: value.clone().contiguous() for name, value in module.state_dict().items()}


@pytest.fixture(scope="module")
def compact(tmp_path_factory) -> Path:
    """A Compact network as a .pth file whose conversion is in the cache, made by PyTorch's older exporter.

    The exporter that `convert` calls needs ten seconds; the slow tests run it.
    """
    path = tmp_path_factory.mktemp("networks") / "2x_Small.pth"
    module = network("Compact")
    torch.save({"params": cloned(module)}, path)
    model = exported(module, torch.zeros(1, 3, 24, 40), free=True)
    onnx.helper.set_model_props(model, {pytorch_conversion.ARCHITECTURE: "RealESRGAN Compact"})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    store(pytorch_conversion.cache_name(digest), model.SerializeToString())
    return path


@pytest.fixture
def run(monkeypatch, capsys) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


def outputs(model: onnx.ModelProto | Path, picture: np.ndarray) -> np.ndarray:
    """What ONNX Runtime computes for a picture (1, C, H, W)."""
    content = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model.read_bytes()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(["output"], {"input": picture})[0]


def random_picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).random((1, 3, height, width), np.float32)


LAYOUTS = {
    "bare.pth": lambda tensors: tensors,
    "params.pth": lambda tensors: {"params": tensors},
    "ema.pth": lambda tensors: {"params": {n: 0 * t for n, t in tensors.items()}, "params_ema": tensors},
    "lightning.ckpt": lambda tensors: {"state_dict": tensors, "epoch": 3, "hyper_parameters": {"lr": 0.1}},
    "parallel.pt": lambda tensors: {f"module.{name}": tensor for name, tensor in tensors.items()},
}
"""The layouts of weights that training programs write."""


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_pytorch_gives_the_same_network(tmp_path, layout):
    module = network("Compact")
    torch.save(LAYOUTS[layout](cloned(module)), tmp_path / layout)
    model = read_pytorch(tmp_path / layout)
    assert (model.architecture, model.scale, model.channels) == ("RealESRGAN Compact", 2, 3)
    picture = torch.from_numpy(random_picture(9, 14))
    assert torch.equal(model.module(picture), module(picture))


@pytest.mark.parametrize("kind", [torch.float32, torch.float16])
def test_safetensors_give_the_same_network(tmp_path, kind):
    module = network("Compact").to(kind)
    path = tmp_path / "2x_Small_fp16.safetensors"
    save_file(cloned(module), path)
    assert is_pytorch_file(path)
    picture = torch.from_numpy(random_picture(9, 14))
    assert torch.equal(read_pytorch(path).module(picture), module.float()(picture))


def test_files_of_onebranch_are_not_taken_for_others(tmp_path):
    write(load("photo-x2"), tmp_path / "mine.safetensors")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes((tmp_path / "mine.safetensors").read_bytes()[:50])
    (tmp_path / "empty.safetensors").write_bytes(b"")
    paths = [entry.path for entry in CATALOGUE.values()] + sorted(tmp_path.iterdir())
    assert not any(is_pytorch_file(path) for path in paths)


def test_merge_writes_an_onnx_file_with_open_sizes_that_equals_the_module(run, compact, tmp_path):
    target = tmp_path / "small.onnx"
    outcome = run("merge", compact, "-o", target)
    assert outcome.code == 0, outcome.errors
    assert "compared with the PyTorch module (RealESRGAN Compact): largest difference" in outcome.output
    picture = random_picture(31, 22)
    expected = read_pytorch(compact).module(torch.from_numpy(picture)).numpy()
    np.testing.assert_allclose(outputs(target, picture), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    verified = run("verify", compact, target)
    assert verified.code == 0 and "verified:" in verified.output, verified.errors
    assert "these two do not belong together" in run.refused("verify", compact, "photo-x2")


def test_enhance_takes_weights_as_it_takes_an_onnx_file(compact, tmp_path):
    onnx.save(converted(compact), tmp_path / "small.onnx")
    picture = Picture(np.random.default_rng(1).integers(0, 256, (70, 90, 3), np.uint8))
    expected = enhance(picture, tmp_path / "small.onnx").pixels
    assert np.array_equal(enhance(picture, compact).pixels, expected)
    tiled = Enhancer(Options(model=compact, tile=32)).enhance(picture).pixels
    assert np.array_equal(tiled, expected)


def test_a_compact_network_can_be_quantized_because_it_is_a_chain(compact):
    model = as_model(compact)
    assert [block.activation for block in model.spec.all_blocks] == ["prelu"] * 3 + ["none"]
    picture = random_picture(20, 17)
    expected = read_pytorch(compact).module(torch.from_numpy(picture)).numpy()
    output = open_runtime(model).run(picture)
    np.testing.assert_allclose(output, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_info_names_architecture_scale_and_halo(run, compact):
    outcome = run("info", compact, "--json")
    assert outcome.code == 0, outcome.errors
    facts = json.loads(outcome.output)
    assert facts["format"].startswith("PyTorch weights of RealESRGAN Compact, converted to ONNX, opset")
    assert (facts["scale"], facts["runs"]) == ("2", True)
    assert facts["halo"] == dict(top=4, bottom=4, left=4, right=4)  # four 3x3 convolutions


def test_the_conversion_is_cached_by_content_and_needs_no_pytorch_again(compact, tmp_path, monkeypatch):
    first = converted(compact)
    renamed = tmp_path / "renamed.pth"
    renamed.write_bytes(compact.read_bytes())
    monkeypatch.setattr(pytorch_conversion, "convert", lambda *_: pytest.fail("converted again"))
    assert converted(renamed) == first
    renamed.write_bytes(b"other content")
    with pytest.raises(OnebranchError, match="damaged, or no file of PyTorch weights"):
        converted(renamed)


def test_a_damaged_cache_is_ignored(compact, monkeypatch, tmp_path):
    expected = converted(compact)
    monkeypatch.setenv("ONEBRANCH_CACHE", str(tmp_path))
    conversions = []
    monkeypatch.setattr(pytorch_conversion, "convert", lambda *_: conversions.append(1) or expected)
    converted(compact)
    (cached,) = tmp_path.iterdir()
    content = bytearray(cached.read_bytes())
    content[len(content) // 2] ^= 1
    cached.write_bytes(content)
    assert converted(compact) == expected
    assert converted(compact) == expected
    assert len(conversions) == 2
    monkeypatch.setenv("ONEBRANCH_CACHE", str(compact))  # a file: nothing can be stored in it
    assert converted(compact) == expected
    assert len(conversions) == 3


class Attack:
    """An object whose unpickling creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("command", ["merge", "info", "enhance"])
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "pickle"])
def test_unsafe_pickles_are_refused_and_nothing_is_run(run, tmp_path, crops, command, legacy):
    path, traces = tmp_path / "unsafe.pth", tmp_path / "attacked"
    if legacy:
        path.write_bytes(pickle.dumps({"params": Attack(traces)}, protocol=2))
    else:
        torch.save({"params": cloned(network("Compact")), "extra": Attack(traces)}, path)
    words = {
        "merge": ["merge", path, "-o", tmp_path / "out.onnx"],
        "info": ["info", path],
        "enhance": ["enhance", crops / "sand.png", "-m", path, "-o", tmp_path / "out.png"],
    }
    line = run.refused(*words[command])
    assert f"{path}: it holds Python objects" in line
    assert "nothing of it was loaded or run" in line
    assert [entry.name for entry in tmp_path.iterdir()] == ["unsafe.pth"]


def test_what_is_no_network_is_refused_in_one_line(run, tmp_path):
    tensors = {"a": torch.zeros(2), "b": torch.zeros(3)}
    save_file(tensors, tmp_path / "other.safetensors")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"params": 3}, tmp_path / "number.pth")
    torch.save(cloned(network("Compact")), tmp_path / "cut.pth")
    content = (tmp_path / "cut.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(content[: len(content) // 2])
    with pytest.warns(DeprecationWarning, match="jit"):
        torch.jit.script(torch.nn.Conv2d(3, 3, 3)).save(tmp_path / "script.pt")
    broken = cloned(network("Compact"))
    broken["body.2.weight"] = broken["body.2.weight"][:, :5].contiguous()
    torch.save(broken, tmp_path / "broken.pth")
    (tmp_path / "folder.pth").mkdir()
    lines = {
        "other.safetensors": "spandrel knows no architecture with its 2 tensors ('a', 'b', ...)",
        "list.pth": "holds a list, not the weights of a network",
        "number.pth": "holds no tensors by name",
        "cut.pth": "it is damaged, or no file of PyTorch weights",
        "script.pt": "it is a TorchScript archive, which is a program",
        "broken.pth": "its tensors do not fit the architecture that spandrel takes them for",
        "folder.pth": "it is a folder",
    }
    for name, line in lines.items():
        assert line in run.refused("info", tmp_path / name), name
    assert "'missing.pth' is neither a shipped model nor a file" in run.refused("info", "missing.pth")
    assert "an ONNX file; choose a name that ends in .onnx" in run.refused(
        "merge", tmp_path / "list.pth", "-o", tmp_path / "a.safetensors"
    )
    assert "holds PyTorch weights, which enhance, info, merge and quantize accept" in run.refused(
        "export", tmp_path / "list.pth", "-o", tmp_path / "a.onnx"
    )


@pytest.mark.parametrize(
    "words", [("info",), ("merge", "-o", "x.onnx"), ("enhance", "sand.png", "-o", "x.png", "-m")]
)
def test_a_missing_extra_is_one_line(run, compact, crops, monkeypatch, words):
    find_spec = extras.importlib.util.find_spec
    monkeypatch.setattr(
        extras.importlib.util, "find_spec", lambda name: None if name == "spandrel" else find_spec(name)
    )
    monkeypatch.chdir(crops)
    line = run.refused(*words, compact)
    assert (
        f"PyTorch weights such as {compact} needs spandrel; install with: pip install 'onebranch[spandrel]'"
        in line
    )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "suffix"), [("Compact", "pth"), ("SPAN", "pth"), ("ESRGAN", "safetensors")])
def test_every_architecture_is_converted_merged_and_run_in_exact_tiles(run, tmp_path, name, suffix):
    module = network(name)
    module(torch.zeros(1, 3, 8, 8))  # SPAN stores its merged weights when it runs
    path, target = tmp_path / f"2x_{name}.{suffix}", tmp_path / "merged.onnx"
    if suffix == "pth":
        torch.save({"params_ema": cloned(module)}, path)
    else:
        save_file(cloned(module), path)
    outcome = run("merge", path, "-o", target)
    assert outcome.code == 0, outcome.errors
    picture = random_picture(26, 37)
    with torch.no_grad():
        expected = module(torch.from_numpy(picture)).numpy()
    np.testing.assert_allclose(outputs(target, picture), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert read_foreign(path).usable()[1].halo is not None
    pixels = Picture(np.random.default_rng(1).integers(0, 256, (150, 170, 3), np.uint8))
    tiled = Enhancer(Options(model=path, tile=64)).enhance(pixels).pixels
    untiled = Enhancer(Options(model=path, tile=512)).enhance(pixels).pixels
    assert np.array_equal(tiled, untiled)


@pytest.mark.slow
def test_converted_files_run_without_importing_pytorch(compact):
    import subprocess

    converted(compact)
    script = (
        "import sys; sys.path.insert(0, sys.argv[2]); import torchvision_placeholder as t; t.install();"
        "from onebranch.model.foreign import read_foreign; assert read_foreign(sys.argv[1]).usable();"
        "assert 'torch' not in sys.modules"
    )
    tests = str(Path(__file__).parent)
    subprocess.run([sys.executable, "-c", script, str(compact), tests], check=True)


def test_a_spandrel_that_does_not_load_is_one_line(monkeypatch):
    """Such as with a torchvision that was built for another PyTorch, which raises RuntimeError."""
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(
        OnebranchError, match="spandrel, which reads PyTorch weights, cannot be imported"
    ) as caught:
        imported_spandrel()
    assert "\n" not in str(caught.value)
