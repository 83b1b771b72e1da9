"""`--device`: which GPU is taken, when one is refused and why, and what `auto` measures.

A stub stands for GPUs, except in the last test, which runs where ONEBRANCH_GPU=1 is set.
"""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import stub_gpu
from command_line import ENVIRONMENT, CommandLine
from network_specs import calm_model
from onebranch import bench, extras
from onebranch.bench import ONE_RUN_EACH, BenchSettings
from onebranch.cli import info
from onebranch.enhancer import device as stage_device
from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.manifest import fingerprint
from onebranch.enhancer.options import Options
from onebranch.enhancer.stage import ArrayStage, Stage
from onebranch.errors import OnebranchError
from onebranch.evaluation import evaluate
from onebranch.extras import missing_packages
from onebranch.graph.analysis.halo import Halo
from onebranch.graph.onnx.writing import to_onnx
from onebranch.images.encoders.encoding import Encoding
from onebranch.images.picture import Picture
from onebranch.images.reading import read
from onebranch.images.writing import write as write_picture
from onebranch.lowering.floats import lower
from onebranch.model.file import write as save
from onebranch.runtime import gpu as gpu_module
from onebranch.runtime import speed
from onebranch.runtime.gpu import (
    GPU_RUNTIMES,
    Gpu,
    GpuRuntimeEntry,
    check_device,
    check_probe,
    gpus,
    names_gpu,
    probe_tile,
    relative_difference,
)
from onebranch.serve import worker
from onebranch.serve.device import try_device
from onebranch.spec.shorthand import NetworkShorthand, expand
from onebranch.video.frame_enhancer import clip_options
from quantized_models import random_quantized

MERGED = replace(calm_model(branches=("3x3",), task="upscale", scale=2), name="merged")
QUANTIZED = replace(random_quantized(expand(NetworkShorthand(task="denoise", branches=("3x3",)))), name="q")
PICTURE = Picture(np.random.default_rng(0).integers(0, 256, (24, 26, 3), np.uint8))


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As if ONNX Runtime listed the GPUs of the stub, and PyTorch were not installed; an empty cache."""
    monkeypatch.setitem(GPU_RUNTIMES, "onnxruntime", GpuRuntimeEntry("stub_gpu", "gpu"))
    monkeypatch.setitem(extras.EXTRAS, "gpu", ("numpy",))
    monkeypatch.setitem(GPU_RUNTIMES, "torch", GpuRuntimeEntry("absent", "absent"))
    monkeypatch.setitem(extras.EXTRAS, "absent", ("a_package_that_is_not_there",))
    monkeypatch.setenv("ONEBRANCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(speed, "_MEASURED", {})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model and a folder with a picture."""
    save(MERGED, tmp_path / "merged.safetensors")
    (tmp_path / "in").mkdir()
    write_picture(PICTURE, tmp_path / "in" / "a.png")
    return tmp_path


def opened(**options: object) -> Enhancer:
    """An enhancer with the model, one thread, and these options."""
    return Enhancer(Options(**{"model": MERGED, "threads": 1, "device": "gpu", **options}))


def refusal(**options: object) -> str:
    """The error of such an enhancer."""
    with pytest.raises(OnebranchError) as error:
        opened(**options)
    return str(error.value)


@pytest.mark.parametrize("name", ["", "gpu:", "gpu:-1", "gpu:1.5", "GPU", "cuda", "gpu:0 ", "gpu:1000"])
def test_unknown_devices_are_refused(name: str) -> None:
    with pytest.raises(OnebranchError, match=r"unknown device '.*'; valid: auto, cpu, gpu, and gpu:N"):
        Options(device=name)


def test_known_devices() -> None:
    for name in ("cpu", "auto", "gpu", "gpu:0", "gpu:12"):
        check_device(name)
    assert [names_gpu(name) for name in ("cpu", "auto", "gpu", "gpu:1")] == [False, False, True, True]


def test_a_named_gpu_computes_what_the_cpu_computes(stub: None) -> None:
    enhancer = opened()
    assert enhancer.devices_for((24, 26)) == ["Stub 3000"]
    ours, cpu = enhancer.enhance(PICTURE).pixels, opened(device="cpu").enhance(PICTURE).pixels
    assert np.abs(ours.astype(int) - cpu.astype(int)).max() <= 1
    assert opened(device="cpu").devices_for((24, 26)) == ["CPU"]


def test_the_index_selects_a_gpu_of_the_list(stub: None) -> None:
    assert opened(device="gpu:1").devices_for((24, 26)) == ["Stub 1000"]
    assert "there is no gpu:2; the GPUs here: gpu:0 Stub 3000, gpu:1 Stub 1000" in refusal(device="gpu:2")


def test_the_summary_and_the_json_name_the_device(stub: None, run: CommandLine, folder: Path) -> None:
    words = ("enhance", folder / "in", "--model", folder / "merged.safetensors", "--threads", 1)
    done = run(*words, "-o", folder / "out", "--device", "gpu")
    assert "merged in onnxruntime, fp32, on Stub 3000" in done.output, done.errors
    lines = run(*words, "-o", folder / "json", "--device", "gpu", "--json").output.splitlines()
    assert json.loads(lines[0])["device"] == "Stub 3000"
    assert ", on " not in run(*words, "-o", folder / "cpu").output


@pytest.mark.parametrize(
    ("error", "words"), [(2e-4, "by 1.*e-04, more than 1e-04"), (float("nan"), "by inf, more")]
)
def test_a_gpu_with_another_output_is_refused(stub: None, monkeypatch, error: float, words: str) -> None:
    monkeypatch.setattr(stub_gpu, "ERROR", error)
    with pytest.raises(OnebranchError, match=f"Stub 3000 is not used: its output for a probe tile .*{words}"):
        opened()


def test_the_tolerance_is_a_fortieth_of_a_grey_level(stub: None, monkeypatch) -> None:
    monkeypatch.setattr(stub_gpu, "ERROR", 5e-5)
    assert opened().devices_for((1, 1)) == ["Stub 3000"]
    assert gpu_module.PROBE_TOLERANCE * 255 < 1 / 39


def test_the_difference_is_relative_to_large_values_only() -> None:
    values = np.array([[1.0, -200.0]])
    assert relative_difference(values + np.array([0, 0.5]), values) == 0.5 / 200
    assert relative_difference(values / 400 + np.array([0, 0.5]), values / 400) == 0.5
    assert relative_difference(np.zeros((1, 3)), values) == float("inf")


class Fixed:
    """A network of one output."""

    name, halo = "fixed", Halo(0, 0, 0, 0)

    def __init__(self, output: np.ndarray) -> None:
        self.output = output

    def run(self, pictures: np.ndarray) -> np.ndarray:
        """The output."""
        return self.output


def test_an_output_of_another_size_is_refused() -> None:
    with pytest.raises(OnebranchError, match="by inf"):
        check_probe(Gpu("x", 0, "X"), Fixed(np.zeros(3)), Fixed(np.zeros(4)), probe_tile(1, 2, 2))


def test_other_precisions_and_runtimes_are_refused(stub: None) -> None:
    assert "GPUs compute in fp32, not in bf16; --device cpu computes without" in refusal(precision="bf16")
    assert "runtime 'engine' computes on the CPU only; onnxruntime and torch" in refusal(runtime="engine")
    assert "q runs in int8, which is exact to the bit on the CPU and not" in refusal(model=QUANTIZED)
    assert opened(model=QUANTIZED, precision="fp32").devices_for((1, 1)) == ["Stub 3000"]
    assert opened(precision="fast").precisions_for((1, 1)) == ["fp32"]


def test_the_shipped_models_of_a_gpu_are_those_in_floats(stub: None) -> None:
    enhancer = opened(model=None, precision="fast")
    assert [stage.model.name for stage in enhancer.stages_for((24, 26))] == ["restore-x2"]
    assert clip_options(Options(scale=2, device="gpu"), (90, 160)).model == "photo-x2"
    assert clip_options(Options(scale=0.5, device="gpu:1"), (90, 160)).model == "shrink-x2"
    assert clip_options(Options(scale=2, device="auto"), (90, 160)).model == "photo-x2-int8"


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'onebranch[gpu]'" in refusal()
    assert "torch: torch not installed, pip install 'onebranch[train]'" in refusal()
    assert refusal(runtime="onnxruntime").count("pip install") == 1


@pytest.mark.slow
def test_pytorch_without_cuda_says_so() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if torch.cuda.is_available():
        pytest.skip("PyTorch finds a CUDA device here")
    with pytest.raises(OnebranchError, match=r"no GPU can be used .torch: PyTorch .* CUDA"):
        gpus("torch")


@pytest.fixture
def speeds(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Milliseconds that the timing of a stage on the GPU and on the CPU gives, and how often it was asked."""
    table = {"gpu": 1.0, "cpu": 2.0, "count": 0}

    def milliseconds(stage: Stage) -> float:
        table["count"] += 1
        return table["gpu" if isinstance(stage, ArrayStage) else "cpu"]

    monkeypatch.setattr(stage_device, "_milliseconds_per_megapixel", milliseconds)
    return table


def test_auto_takes_the_faster_device_and_says_so(stub: None, speeds: dict[str, float]) -> None:
    text = "Stub 3000 (auto: the faster one, ms per megapixel: CPU 2, Stub 3000 1)"
    assert opened(device="auto").devices_for((1, 1)) == [text]


def test_auto_keeps_what_it_measured(stub: None, speeds: dict[str, float], monkeypatch) -> None:
    speeds["gpu"] = 3.0
    text = "CPU (auto: the faster one, ms per megapixel: CPU 2, Stub 3000 3)"
    for _ in range(2):
        assert opened(device="auto").devices_for((1, 1)) == [text]
        monkeypatch.setattr(speed, "_MEASURED", {})  # as in another process
    assert speeds["count"] == 2
    other = replace(calm_model(branches=("5x5",), task="upscale", scale=2), name="merged")
    opened(device="auto", model=other)
    monkeypatch.setattr(stub_gpu, "NAMES", ["Another"])
    opened(device="auto")
    assert speeds["count"] == 6


def test_auto_says_why_it_takes_the_cpu(stub: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def reason(**options: object) -> str:
        (text,) = opened(device="auto", **options).devices_for((1, 1))
        return text

    assert reason(precision="bf16") == "CPU (auto: GPUs compute in fp32, not in bf16)"
    assert reason(model=QUANTIZED).startswith("CPU (auto: q runs in int8, which is exact to the bit")
    assert reason(runtime="engine").startswith("CPU (auto: runtime 'engine' computes on the CPU only")
    monkeypatch.setattr(stub_gpu, "ERROR", 1.0)
    assert reason().startswith("CPU (auto: Stub 3000 is not used: its output for a probe tile differs")
    monkeypatch.setattr(stub_gpu, "NAMES", [])
    assert reason().startswith("CPU (auto: no GPU can be used (onnxruntime: the stub has no GPU; torch: a_pa")


def test_the_times_are_of_8_bit_rgb_pictures(stub: None) -> None:
    stage = opened(device="cpu").stages_for((1, 1))[0]
    assert 0 < stage_device._milliseconds_per_megapixel(stage) < 1e6


def test_a_third_party_network_runs_on_a_gpu(stub: None, tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(to_onnx(lower(MERGED.spec, MERGED.weights)))
    enhancer = opened(model=path)
    assert enhancer.devices_for((1, 1)) == ["Stub 3000"]
    ours, cpu = (e.enhance(PICTURE).pixels for e in (enhancer, opened(model=path, device="cpu")))
    assert np.abs(ours.astype(int) - cpu.astype(int)).max() <= 1


def test_operations_that_stay_on_the_cpu_are_named(stub: None, speeds: dict[str, float], monkeypatch) -> None:
    monkeypatch.setattr(stub_gpu.StubNetwork, "cpu_operations", ("Selu", "SpaceToDepth"))
    assert opened().devices_for((1, 1)) == ["Stub 3000, Selu and SpaceToDepth on the CPU"]
    (text,) = opened(device="auto").devices_for((1, 1))
    assert text.startswith("Stub 3000, Selu and SpaceToDepth on the CPU (auto: the faster one")


def test_evaluation_names_the_device(stub: None, folder: Path) -> None:
    scores = evaluate(MERGED, folder / "in", device="gpu", threads=1)
    assert scores.ran == "onnxruntime, fp32, on Stub 3000"


def test_bench_times_the_gpu_alone_or_beside_the_cpu(stub: None, monkeypatch) -> None:
    settings = BenchSettings((12, 16), 1, 1, ONE_RUN_EACH, "gpu:1")
    (row,), notes = bench.measure(["photo-x2"], (), (), settings)
    assert (row.runtime, row.precision, row.speedup) == ("onnxruntime on Stub 1000", "fp32", None)
    (note,) = notes
    assert note.startswith("skipped torch on a GPU: no GPU can be used (torch: a_package_that_is_not_there")
    monkeypatch.setattr(stub_gpu, "ERROR", 1.0)
    both = replace(settings, device="auto")
    rows, notes = bench.measure(["photo-x2"], ["onnxruntime"], ["fp32"], both)
    assert [row.runtime for row in rows] == ["onnxruntime"]
    assert "skipped photo-x2 in onnxruntime on Stub 3000: Stub 3000 is not used" in notes[0]


def test_info_lists_the_gpus_where_the_extra_is_installed(stub: None, monkeypatch) -> None:
    assert info._gpus() == "gpu:0 Stub 3000, gpu:1 Stub 1000"
    monkeypatch.setitem(extras.EXTRAS, "gpu", ("a_package_that_is_not_there",))
    assert info._gpus() == ""


def test_the_fingerprint_of_the_cpu_is_that_of_older_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """They recorded no device, and what they enhanced must be recognised as done."""
    recorded: list[str] = []

    def dumps(values: object, **settings: bool) -> str:
        recorded.append(json.dumps(values, **settings))
        return recorded[-1]

    monkeypatch.setattr("onebranch.strict_json.dumps", dumps)
    cpu, gpu = (fingerprint(Options(model=MERGED, device=device), Encoding()) for device in ("cpu", "gpu"))
    assert ["device" in text for text in recorded] == [False, True]
    assert cpu != gpu


def test_a_service_chooses_its_device_once(stub: None, speeds: dict[str, float], monkeypatch) -> None:
    assert try_device("auto") == (
        "gpu",
        "Stub 3000 (auto: the faster one, ms per megapixel: CPU 2, Stub 3000 1)",
    )
    assert try_device("gpu:1") == ("gpu:1", "Stub 1000")
    monkeypatch.setattr(stub_gpu, "NAMES", [])
    assert try_device("auto")[0] == "cpu"
    with pytest.raises(OnebranchError, match="the stub has no GPU"):
        try_device("gpu")


def test_a_process_of_the_service_keeps_the_gpu(monkeypatch, tmp_path: Path) -> None:
    calls = []
    monkeypatch.setattr(worker, "confine", lambda *paths: calls.append(paths))
    monkeypatch.setattr(worker, "limit_resources", lambda *limits: calls.append(limits))
    limits = worker.ServiceLimits()
    for device in ("gpu:1", "cpu"):
        options = {"threads": 1, "device": device}
        worker._confine(worker.PictureTask(str(tmp_path), None, options, Encoding(), (), limits))
    (readable, _, devices), (memory, *_), cpu_paths, (cpu_memory, *_) = calls
    assert "/sys" in readable and "/dev/dri" in devices and memory is None
    assert len(cpu_paths) == 2 and "/sys" not in cpu_paths[0] and cpu_memory > limits.memory


SOFTWARE_DRIVERS = ("/usr/lib/chromium/vk_swiftshader_icd.json",)
"""Descriptions of software Vulkan drivers that have what WebGPU needs; Mesa 22's has not."""


@pytest.mark.slow
def test_the_plugin_computes_on_a_software_driver(folder: Path) -> None:
    """ONNX Runtime's plugin itself, every operation of the network on Vulkan, and what the summary says."""
    driver = next((path for path in SOFTWARE_DRIVERS if Path(path).exists()), None)
    if driver is None or missing_packages("gpu"):
        pytest.skip("needs the extra gpu and Chromium's SwiftShader")
    variables = {"ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER": "1", "VK_ICD_FILENAMES": driver}
    words = ["enhance", "in", "--model", "merged.safetensors", "--threads", "1"]
    for device, tile in (("cpu", "0"), ("gpu", "0"), ("gpu", "16")):
        options = ["--device", device, "--tile", tile, "-o", f"{device}{tile}"]
        done = subprocess.run(
            [sys.executable, "-m", "onebranch", *words, *options],
            cwd=folder,
            env={**ENVIRONMENT, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ("on software GPU" in done.stdout) == (device == "gpu"), done.stdout + done.stderr
    cpu, *others = (read(folder / name / "a.png").pixels.astype(int) for name in ("cpu0", "gpu0", "gpu16"))
    assert all(np.abs(other - cpu).max() <= 1 for other in others)


@pytest.mark.gpu
@pytest.mark.parametrize("runtime", [*GPU_RUNTIMES])
def test_a_real_gpu_computes_what_the_cpu_computes(runtime: str) -> None:
    """Whole pictures of 8 bits, in one tile and in several, within one grey level."""
    try:
        gpus(runtime)
    except OnebranchError as error:
        pytest.skip(str(error))
    pixels = np.random.default_rng(1).integers(0, 256, (301, 403, 3), np.uint8)
    for name in ("photo-x2", "photo-x4", "denoise", "shrink-x2", "restore-x2", "restore-luma-x2"):
        cpu = Enhancer(Options(model=name)).enhance(Picture(pixels)).pixels.astype(int)
        for tile in (0, 128):
            options = Options(model=name, device="gpu", runtime=runtime, tile=tile)
            ours = Enhancer(options).enhance(Picture(pixels)).pixels.astype(int)
            assert np.abs(ours - cpu).max() <= 1
