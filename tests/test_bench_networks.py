"""The benchmark of networks: its arithmetic, its table of ways, and its JSON on a tiny picture."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from onebranch.bench import alone, inference, networks, plot, scaling, targets, ways, whole_path
from onebranch.bench.interleaved import Turns, in_turns, ratio
from onebranch.cli.bench import command
from onebranch.errors import OnebranchError
from onebranch.runtime.engine_library import available
from onebranch.spec.network import macs

QUICK = Turns(turn=0, budget=10, rest=0)

engine = pytest.mark.skipif(bool(available()), reason=available())

ROW = inference.Row(
    network="photo-x2",
    about="",
    way="engine int8",
    runtime="engine",
    form="merged",
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


class Ticks:
    """A clock that stands still but for what candidates say that they take."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def candidate(self, *seconds: float):
        """Takes those times in turn, the last one for ever."""
        left = list(seconds)

        def run() -> None:
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


def test_quick_candidates_run_several_times_in_a_turn():
    clock = Ticks()
    seconds = in_turns(
        {"quick": clock.candidate(5, 0.25), "slow": clock.candidate(2)}, 3, Turns(1, 100, 0), clock
    )
    assert seconds == {"quick": [0.25] * 3, "slow": [2.0] * 3}
    assert clock.now == (5 + 0.25 + 3 * 4 * 0.25) + (2 + 2 + 3 * 2)


def test_what_is_slow_at_first_is_warmed_up_once():
    clock = Ticks()
    in_turns({"slow": clock.candidate(20, 15)}, 1, Turns(1, 100, 0), clock)
    assert clock.now == 20 + 15


def test_slow_candidates_sit_out_and_ratios_are_of_the_rounds_that_both_took_part_in():
    clock = Ticks()
    seconds = in_turns(
        {"slow": clock.candidate(8), "quick": clock.candidate(1, 1, 2, 4, 4)}, 4, Turns(0, 10, 0), clock
    )
    assert seconds["slow"] == [8.0, 8.0]
    assert seconds["quick"] == [1.0, 2.0, 4.0, 4.0]
    assert ratio(seconds["slow"], seconds["quick"]) == 6.0


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_the_forms_of_a_network_do_the_same_work_for_the_same_pictures(name):
    net = networks.network(name)
    assert net.quantized is not None and net.quantized.quantization is not None
    forms = [form for form in (net.unmerged, net.merged, net.quantized) if form is not None]
    assert len({(form.spec.task, form.spec.scale, form.spec.colour) for form in forms}) == 1
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


def test_no_name_means_the_usual_networks():
    assert networks.chosen(()) == list(networks.USUAL)
    assert networks.chosen(("all",)) == list(networks.NETWORKS)
    assert networks.chosen(("sesr", "sesr")) == ["sesr"]


def test_ways_that_cannot_run_are_noted_not_skipped():
    net = replace(networks.network("patent"), quantized=None)
    chosen = ways.chosen(("onnxruntime", "engine"), ())
    reasons = {way.label: way.reason_against(net) for way in chosen}
    assert reasons["ONNX Runtime"] == ""
    assert reasons["engine int8"] == "integers do not take this network"
    leaky = networks.network("leaky-x2")
    assert "costs the same" in ways.WAYS["PyTorch, unmerged"].reason_against(leaky)
    absent = replace(ways.WAYS["engine int8"], modules=("absent_package",))
    with pytest.raises(OnebranchError, match="nothing here can be measured: engine int8 is left out"):
        inference.compare(["patent"], [absent], inference.Settings((8, 8), 1, alone=False))


def test_rows_are_arithmetic_on_the_times():
    net, way = networks.network("photo-x2"), ways.WAYS["engine int8"]
    seconds = {"ONNX Runtime": [0.4, 0.2, 0.6], "engine int8": [0.02, 0.01, 0.04]}
    rate = macs(net.merged.spec) * 20 * 30 / 0.02
    row = inference._row(net, way, seconds, {"int8": 2 * rate}, (20, 30), alone.Cost(7.0, 9.0), 0.03)
    assert row.milliseconds == 20.0
    assert row.megapixels == pytest.approx(4 * 20 * 30 / 0.02 / 1e6)
    assert row.share == pytest.approx(0.5)
    assert row.ratio == pytest.approx(20)
    assert (row.megabytes, row.first_milliseconds, row.loss_db) == (7.0, 9.0, 0.03)


def test_without_a_peak_or_a_baseline_there_is_no_share_and_no_ratio():
    net, way = networks.network("patent"), ways.WAYS["PyTorch"]
    row = inference._row(net, way, {"PyTorch": [0.1]}, {"int8": 1.0}, (2, 3), None, None)
    assert (row.share, row.ratio, row.megabytes) == (None, None, None)


def test_the_recorded_loss_stands_beside_shipped_models_only():
    chosen = list(ways.WAYS.values())
    settings = inference.Settings((8, 8))
    recorded = inference._losses(networks.network("photo-x2"), chosen, settings, lambda line: None)
    assert list(recorded) == ["engine int8"] and 0 < recorded["engine int8"] < 0.1
    assert inference._losses(networks.network("patent"), chosen, settings, lambda line: None) == {}


@engine
def test_losses_are_measured_on_a_folder(tmp_path):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    chosen = ways.chosen(("engine",), ())
    settings = inference.Settings((8, 8), data=str(tmp_path))
    losses = inference._losses(networks.network("photo-x2"), chosen, settings, lambda line: None)
    assert list(losses) == ["engine bf16", "engine int8"]
    assert all(loss is not None and abs(loss) < 1 and loss != 0 for loss in losses.values())


def test_a_process_of_its_own_tells_memory_and_first_call():
    way, net = ways.WAYS["ONNX Runtime"], networks.network("photo-x2")
    small, large = (alone.alone(way, net.merged, size, 1) for size in ((16, 16), (512, 1024)))
    assert small.milliseconds is not None and small.milliseconds > 0
    if alone.peak_bytes() is not None:
        output = 4 * 4 * 512 * 1024 / 1e6
        assert large.megabytes > small.megabytes + output


def test_a_process_that_fails_is_no_number():
    assert alone.asked("way", way="absent", path="absent", size=[1, 1], threads=1) is None


def test_peaks_are_those_of_this_process_since_they_were_set_back():
    before = alone.reset_peak()
    if before is None:
        pytest.skip("this system does not tell a process's peak")
    held = np.ones(40_000_000, np.uint8)
    risen = alone.megabytes_since(before)
    assert risen is not None and 35 < risen < 80
    assert held.all()


def test_targets_say_what_was_reached():
    rows = [
        ROW,
        replace(ROW, network="patent", seconds=(0.01, 0.01)),
        replace(ROW, network="patent", way="PyTorch, unmerged", seconds=(3.0, 1.0)),
    ]
    path = [whole_path.PathRow("engine int8", "int8", 10, 1, 1.25)]
    found = {target.what: target for target in targets.of_rows(rows, path)}
    assert found["photo-x2: engine int8 over ONNX Runtime"].met
    share = found["photo-x2: engine int8, of the int8 peak"]
    assert (share.reached, share.wanted, share.met) == (50.0, 85.0, False)
    assert found["patent: engine int8 over PyTorch, unmerged"].reached == pytest.approx(200)
    assert not found["whole path, engine int8, of OpenCV's time"].met
    assert len(found) == 4


def test_targets_of_scaling():
    scales = [scaling.Scale("int8", edge, cost) for edge, cost in ((256, 33.0), (16384, 27.5))]
    memories = [scaling.Memory("int8", 20_000, 2_000, 12.5), scaling.Memory("int8", 20_000, 20_000, None)]
    cost, memory = targets.of_scaling(scales, memories)
    assert cost.reached == pytest.approx(1.2) and not cost.met
    assert memory.met and memory.reached == 12.5


@engine
def test_the_peak_of_every_thread_is_summed():
    from onebranch.bench.peaks import Peak
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
@pytest.mark.parametrize("chunk", [1, 7, 40])
def test_a_streamed_picture_is_given_whole(chunk):
    from onebranch.enhancer.engine_stage import EngineStage

    stage = EngineStage(networks.network("photo-x2").merged, threads=1)
    assert scaling.streamed(stage, 40, scaling.random_rows(chunk, 9)) == 80


@engine
def test_memory_of_a_tall_picture_is_far_below_the_picture():
    (found,) = scaling.memories(("int8",), 1, rows=4000, widths=(500,))
    assert (found.rows, found.width) == (4000, 500)
    if found.megabytes is not None:
        assert 0 < found.megabytes < 4000 * 500 * 3 * 4 / 1e6


@engine
def test_the_whole_path_is_compared_with_opencv_where_that_is_installed(monkeypatch):
    pytest.importorskip("cv2")
    rows, notes = whole_path.compare((12, 20), 1, 1, turns=QUICK)
    assert [row.precision for row in rows] == ["", "fp32", "bf16", "int8"]
    assert rows[0].ratio == 1.0 and notes == []
    monkeypatch.setattr(whole_path.importlib.util, "find_spec", lambda name: None)
    rows, notes = whole_path.compare((12, 20), 1, 1, ("int8",), QUICK)
    assert [row.precision for row in rows] == ["int8"] and "pip install opencv-python-headless" in notes[0]


@pytest.mark.parametrize("networks_drawn", [1, 3])
def test_plots_have_a_panel_for_each_network(tmp_path, networks_drawn):
    pytest.importorskip("matplotlib")
    rows = [
        replace(ROW, network=str(n), way=way)
        for n in range(networks_drawn)
        for way in ("engine int8", "other")
    ]
    drawn = plot.figure(rows, "title")
    assert sum(panel.get_visible() for panel in drawn.axes) == networks_drawn
    assert [len(panel.patches) for panel in drawn.axes if panel.get_visible()] == [2] * networks_drawn
    plot.save(rows, "title", tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(OnebranchError, match="the plot cannot be written"):
        plot.save(rows, "title", tmp_path / "absent" / "plot.png")


ARGUMENTS = ["--network", "photo-x2", "--size", "12x16", "--rounds", "1", "--threads", "1", "--no-memory"]


@engine
def test_the_command_prints_json():
    arguments = [*ARGUMENTS, "--runtime", "onnxruntime", "--runtime", "engine", "--json"]
    told = json.loads(CliRunner().invoke(command, arguments, catch_exceptions=False).stdout)
    assert set(told) == {"size", "rounds", "threads", "peaks", "rows", "whole_path", "goals", "notes"}
    assert (told["size"], told["threads"], set(told["peaks"])) == ([12, 16], 1, {"fp32", "bf16", "int8"})
    ran = {row["way"]: row for row in told["rows"]}
    assert {"ONNX Runtime, unmerged", "ONNX Runtime", "engine fp32", "engine int8"} <= set(ran)
    assert ran["ONNX Runtime"]["ratio"] == 1.0 and ran["engine int8"]["loss_db"] > 0
    assert ran["engine int8"]["milliseconds"] == pytest.approx(1e3 * ran["engine int8"]["seconds"][0])
    assert {"what", "wanted", "reached", "unit", "at_most", "met"} == set(told["goals"][0])


@engine
def test_the_command_prints_tables():
    arguments = [*ARGUMENTS, "--runtime", "onnxruntime", "--runtime", "engine"]
    printed = CliRunner().invoke(command, arguments, catch_exceptions=False).output
    for text in ("16x12, 1 thread,", "engine bf16", "measured peak", "Whole path", "Goals", "wanted"):
        assert text in printed
