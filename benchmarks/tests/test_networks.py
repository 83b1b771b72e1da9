"""The inference benchmark: its arithmetic, its table of configurations, and its JSON on a tiny picture."""

import json
import mmap
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import configurations, end_to_end, inference, isolated, networks, plots, scaling, targets
from benchmarks.command_line import benchmarks
from onebranch.bench import Pacing
from onebranch.errors import OnebranchError
from onebranch.runtime.engine_library import available
from onebranch.spec.network import macs

QUICK = Pacing(batch_seconds=0, budget_seconds=10, rest_seconds=0)

engine = pytest.mark.skipif(bool(available()), reason=available())

ROW = inference.InferenceRow(
    network="photo-x2",
    description="",
    label="engine int8",
    runtime="engine",
    structure="merged",
    precision="int8",
    seconds=(0.02, 0.01, 0.04),
    megapixels=100.0,
    share=0.5,
    megabytes=1.0,
    first_milliseconds=30.0,
    ratio=10.0,
    loss_db=0.03,
    parameters=10,
    macs=10,
)


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_the_forms_of_a_network_do_the_same_work_for_the_same_pictures(name):
    net = networks.network(name)
    assert net.quantized is not None and net.quantized.quantization is not None
    models = [model for model in (net.unmerged, net.merged, net.quantized) if model is not None]
    assert len({(model.spec.task, model.spec.scale, model.spec.colour) for model in models}) == 1
    assert macs(net.merged.spec) == macs(net.quantized.spec)
    assert (net.unmerged is None) == (name == "leaky-x2")
    assert net.unmerged is None or macs(net.unmerged.spec) > macs(net.merged.spec)
    assert all(block.branches in (("3x3",), ("5x5",)) for block in net.merged.spec.all_blocks)


def test_rough_quantization_is_near_the_network():
    """Ranges that clip or round away a picture would not be timed otherwise, but fail to be int8 networks."""
    from onebranch.algebra.integer import run_integer_network
    from onebranch.algebra.network import run_network

    net = networks.network("patent")
    assert net.quantized is not None
    picture = np.random.default_rng(1).random((1, 1, 24, 24), np.float32)
    exact = run_network(net.merged.spec, net.merged.weights, picture)
    rough = run_integer_network(
        net.quantized.spec, net.quantized.weights, net.quantized.quantization, picture
    )
    assert np.abs(rough - exact).mean() < 0.05 * exact.std()


def test_no_name_means_the_default_networks():
    assert networks.select_networks(()) == list(networks.DEFAULT_NETWORKS)
    assert networks.select_networks(("all",)) == list(networks.NETWORKS)
    assert networks.select_networks(("sesr", "sesr")) == ["sesr"]


def test_configurations_that_cannot_run_are_named():
    net = replace(networks.network("patent"), quantized=None)
    selected = configurations.select_configurations(("onnxruntime", "engine"), ())
    reasons = {each.label: each.unsupported_reason(net) for each in selected}
    assert reasons["ONNX Runtime"] == ""
    assert reasons["engine int8"] == "this network cannot be quantized"
    leaky = networks.network("leaky-x2")
    assert "costs the same" in configurations.CONFIGURATIONS["PyTorch, unmerged"].unsupported_reason(leaky)
    absent = replace(configurations.CONFIGURATIONS["engine int8"], modules=("absent_package",))
    with pytest.raises(OnebranchError, match="nothing can be measured: engine int8 is skipped"):
        inference.compare(["patent"], [absent], inference.InferenceSettings((8, 8), 1, isolated=False))


def test_rows_are_arithmetic_on_the_times():
    net, configuration = networks.network("photo-x2"), configurations.CONFIGURATIONS["engine int8"]
    seconds = {"ONNX Runtime": [0.4, 0.2, 0.6], "engine int8": [0.02, 0.01, 0.04]}
    rate = macs(net.merged.spec) * 20 * 30 / 0.02
    row = inference._row(
        net, configuration, seconds, {"int8": 2 * rate}, (20, 30), isolated.FirstRunCost(7.0, 9.0), 0.03
    )
    assert row.milliseconds == 20.0
    assert row.megapixels == pytest.approx(4 * 20 * 30 / 0.02 / 1e6)
    assert row.share == pytest.approx(0.5)
    assert row.ratio == pytest.approx(20)
    assert (row.megabytes, row.first_milliseconds, row.loss_db) == (7.0, 9.0, 0.03)


def test_without_a_peak_or_a_baseline_there_is_no_share_and_no_ratio():
    net, configuration = networks.network("patent"), configurations.CONFIGURATIONS["PyTorch"]
    row = inference._row(net, configuration, {"PyTorch": [0.1]}, {"int8": 1.0}, (2, 3), None, None)
    assert (row.share, row.ratio, row.megabytes) == (None, None, None)


def test_the_recorded_loss_stands_beside_shipped_models_only():
    selected = list(configurations.CONFIGURATIONS.values())
    settings = inference.InferenceSettings((8, 8))
    recorded = inference._losses(networks.network("photo-x2"), selected, settings, lambda line: None)
    assert list(recorded) == ["engine int8"] and 0 < recorded["engine int8"] < 0.1
    assert inference._losses(networks.network("patent"), selected, settings, lambda line: None) == {}


@engine
def test_losses_are_measured_on_a_folder(tmp_path):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    selected = configurations.select_configurations(("engine",), ())
    settings = inference.InferenceSettings((8, 8), data=str(tmp_path))
    losses = inference._losses(networks.network("photo-x2"), selected, settings, lambda line: None)
    assert list(losses) == ["engine bf16", "engine int8"]
    assert all(loss is not None and abs(loss) < 1 and loss != 0 for loss in losses.values())


def test_a_separate_process_measures_memory_and_first_call():
    configuration, net = configurations.CONFIGURATIONS["ONNX Runtime"], networks.network("photo-x2")
    small, large = (
        isolated.measure_first_run(configuration, net.merged, size, 1) for size in ((16, 16), (512, 1024))
    )
    assert small.milliseconds is not None and small.milliseconds > 0
    if isolated.peak_bytes() is not None:
        output = 4 * 4 * 512 * 1024 / 1e6
        assert large.megabytes > small.megabytes + output


def test_a_process_that_fails_is_no_number():
    assert (
        isolated.run_in_new_process("first_run", label="absent", path="absent", size=[1, 1], threads=1)
        is None
    )


def test_peaks_are_those_of_this_process_since_they_were_set_back():
    before = isolated.reset_peak()
    if before is None:
        pytest.skip("this system does not tell a process's peak")
    held = mmap.mmap(-1, 40_000_000)  # new pages, whatever the process has freed before
    np.frombuffer(held, np.uint8)[:] = 1
    risen = isolated.megabytes_since(before)
    assert risen is not None and 35 < risen < 80


def test_targets_say_what_was_reached():
    rows = [
        ROW,
        replace(ROW, network="patent", seconds=(0.01, 0.01)),
        replace(ROW, network="patent", label="PyTorch, unmerged", seconds=(3.0, 1.0)),
    ]
    path = [end_to_end.EndToEndRow("engine int8", "int8", 10, 1, 1.25)]
    by_description = {target.description: target for target in targets.inference_targets(rows, path)}
    assert by_description["photo-x2: engine int8 over ONNX Runtime"].met
    share = by_description["photo-x2: engine int8, of the int8 peak"]
    assert (share.reached, share.wanted, share.met) == (50.0, 85.0, False)
    assert by_description["patent: engine int8 over PyTorch, unmerged"].reached == pytest.approx(200)
    assert not by_description["end to end, engine int8, relative to OpenCV"].met
    assert len(by_description) == 4


def test_targets_of_scaling():
    scales = [scaling.PixelCost("int8", edge, cost) for edge, cost in ((256, 33.0), (16384, 27.5))]
    memories = [
        scaling.StreamMemory("int8", 20_000, 2_000, 12.5),
        scaling.StreamMemory("int8", 20_000, 20_000, None),
    ]
    small = [scaling.SmallPictures("int8", batch=0.12, in_turn=0.2, large=0.1)]
    cost, batch, memory = targets.scaling_targets(scales, small, memories)
    assert batch.reached == pytest.approx(1.2) and batch.met
    assert cost.reached == pytest.approx(1.2) and not cost.met
    assert memory.met and memory.reached == 12.5


@engine
def test_the_peak_of_every_thread_is_summed():
    from benchmarks.peaks import Peak
    from onebranch.runtime.engine import Engine
    from onebranch.runtime.engine_network import describe

    class Counting:
        threads = 3

        def peak(self, precision: int, seconds: float) -> float:
            return 10.0 + precision

    meter = Peak(Counting(), "int8")
    meter()
    assert meter.rate == 36.0
    real = Peak(Engine(describe(networks.network("patent").merged), 1), "fp32")
    real()
    assert real.rate > 0


@engine
def test_scales_are_of_all_sizes_and_precisions():
    scales = scaling.costs((16, 40), ("fp32", "int8"), 1, 1, QUICK)
    assert [(scale.precision, scale.edge) for scale in scales] == [
        ("fp32", 16),
        ("fp32", 40),
        ("int8", 16),
        ("int8", 40),
    ]
    assert all(scale.nanoseconds > 0 for scale in scales)


@engine
def test_small_pictures_are_timed_beside_a_large_one(monkeypatch):
    monkeypatch.setattr(scaling, "SMALL_EDGE", 8)
    monkeypatch.setattr(scaling, "SMALL_COUNT", 4)
    (result,) = scaling.small_pictures(("int8",), 1, 2, QUICK)
    assert result.precision == "int8" and min(result.batch, result.in_turn, result.large) > 0


@engine
@pytest.mark.parametrize("chunk", [1, 7, 40])
def test_a_streamed_picture_is_given_whole(chunk):
    from onebranch.enhancer.engine_stage import EngineStage

    stage = EngineStage(networks.network("photo-x2").merged, threads=1)
    assert scaling.stream_picture(stage, 40, scaling.random_rows(chunk, 9)) == 80


@engine
def test_memory_of_a_tall_picture_is_far_below_the_picture():
    (memory,) = scaling.memories(("int8",), 1, rows=4000, widths=(500,))
    assert (memory.rows, memory.width) == (4000, 500)
    if memory.megabytes is not None:
        assert 0 < memory.megabytes < 4000 * 500 * 3 * 4 / 1e6


@engine
def test_the_whole_path_is_compared_with_opencv_where_that_is_installed(monkeypatch):
    pytest.importorskip("cv2")
    rows, notes = end_to_end.compare((12, 20), 1, 1, pacing=QUICK)
    assert [row.precision for row in rows] == ["", "fp32", "bf16", "int8"]
    assert rows[0].ratio == 1.0 and notes == []
    monkeypatch.setattr(end_to_end.importlib.util, "find_spec", lambda name: None)
    rows, notes = end_to_end.compare((12, 20), 1, 1, ("int8",), QUICK)
    assert [row.precision for row in rows] == ["int8"] and "pip install opencv-python-headless" in notes[0]


@pytest.mark.parametrize("networks_drawn", [1, 3])
def test_plots_have_a_panel_for_each_network(tmp_path, networks_drawn):
    pytest.importorskip("matplotlib")
    rows = [
        replace(ROW, network=str(n), label=label)
        for n in range(networks_drawn)
        for label in ("engine int8", "other")
    ]
    drawn = plots.figure(rows, "title")
    assert sum(panel.get_visible() for panel in drawn.axes) == networks_drawn
    assert [len(panel.patches) for panel in drawn.axes if panel.get_visible()] == [2] * networks_drawn
    plots.save(rows, "title", tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(OnebranchError, match="the plot cannot be written"):
        plots.save(rows, "title", tmp_path / "absent" / "plot.png")


ARGUMENTS = [
    "inference",
    "--network",
    "photo-x2",
    "--size",
    "12x16",
    "--rounds",
    "1",
    "--threads",
    "1",
    "--no-memory",
]


@engine
def test_the_command_prints_json(monkeypatch, tmp_path):
    monkeypatch.setenv("ONEBRANCH_LADDER", str(tmp_path))  # no training run
    arguments = [*ARGUMENTS, "--runtime", "onnxruntime", "--runtime", "engine", "--json"]
    values = json.loads(CliRunner().invoke(benchmarks, arguments, catch_exceptions=False).stdout)
    assert set(values) == {"size", "rounds", "threads", "peaks", "rows", "end_to_end", "goals", "notes"}
    assert (values["size"], values["threads"], set(values["peaks"])) == (
        [12, 16],
        1,
        {"fp32", "bf16", "int8"},
    )
    ran = {row["label"]: row for row in values["rows"]}
    assert {"ONNX Runtime, unmerged", "ONNX Runtime", "engine fp32", "engine int8"} <= set(ran)
    assert ran["ONNX Runtime"]["ratio"] == 1.0 and ran["engine int8"]["loss_db"] > 0
    assert ran["engine int8"]["milliseconds"] == pytest.approx(1e3 * ran["engine int8"]["seconds"][0])
    assert {"description", "wanted", "reached", "unit", "at_most", "met"} == set(values["goals"][0])


@engine
def test_the_command_prints_tables(monkeypatch, tmp_path):
    monkeypatch.setenv("ONEBRANCH_LADDER", str(tmp_path))  # no training run
    arguments = [*ARGUMENTS, "--runtime", "onnxruntime", "--runtime", "engine"]
    printed = CliRunner().invoke(benchmarks, arguments, catch_exceptions=False).output
    for text in ("16x12, 1 thread,", "engine bf16", "measured peak", "RGB bytes", "Goals", "wanted"):
        assert text in printed
