"""Quantizing: exact equalization, ranges and rounding that lose least, crops, and what the whole loses."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from command_line import CommandLine
from network_specs import calm_model, random_model
from onebranch.algebra.integer import integer_layers, run_integer_network
from onebranch.algebra.network import filled, run_layers, run_network
from onebranch.errors import OnebranchError
from onebranch.images.picture import Picture as StillPicture
from onebranch.images.writing import write
from onebranch.model.catalogue import load
from onebranch.model.file import Model, fingerprint, read, to_bytes
from onebranch.model.file import write as save
from onebranch.quantization.calibration import Crop, held_out, read_crops, trained_on_degraded
from onebranch.quantization.equalization import Extent, equalized, equalizing_scales, joined_layers
from onebranch.quantization.layers import channel_extents, plain_record, quantize
from onebranch.quantization.loss import loss_on_crops, loss_on_folder
from onebranch.quantization.ranges import best_quant_params, rounded
from onebranch.quantization.rounding import Products, rounded_weights
from onebranch.spec.network import NetworkSpec, Skip
from onebranch.spec.quantization import QuantParams, quantization_of
from onebranch.spec.shorthand import NetworkShorthand, expand
from quantized_models import integer_specs

F = np.float32

OUTPUT_OF_0_1 = "bee5cb4a4da4f58b58e116582f70d67bf331125b6b09e0af962ae79ecf31e104"
"""SHA-256 of the bytes that version 0.1 computed in the test below; integer networks are exact everywhere."""


def smooth_crops(spec: NetworkSpec, count: int, edge: int = 24) -> list[Crop]:
    """Crops of random waves; the reference is the output of an unrelated network."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:edge, :edge] / edge
    crops = []
    for _ in range(count):
        waves = [
            0.5 + 0.4 * np.sin(rng.uniform(0, 20) * rows + rng.uniform(0, 20) * columns + rng.uniform(0, 6))
            for _ in range(spec.channels)
        ]
        given = np.stack(waves).astype(F)
        wanted = run_network(spec, random_model(spec, 7).weights, given[None])[0]
        crops.append(Crop(given, wanted))
    return crops


def random_scales(spec: NetworkSpec, seed: int) -> list[np.ndarray]:
    """Scales from 1/30 to 30 of head and every block, the same for what additions join."""
    rng = np.random.default_rng(seed)
    drawn = [np.exp(rng.uniform(-3.4, 3.4, block.width)) for block in (spec.head, *spec.blocks)]
    return [drawn[first] for first in joined_layers(spec)]


@given(integer_specs(), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_equalization_is_exact(spec: NetworkSpec, seed: int) -> None:
    model = random_model(spec, seed)
    weights = {name: value.astype(np.float64) for name, value in model.weights.items()}
    pictures = np.random.default_rng(seed).random((2, spec.channels, 7, 6))
    exact = run_network(spec, weights, pictures)
    again = run_network(spec, equalized(spec, weights, random_scales(spec, seed)), pictures)
    assert np.abs(again - exact).max() <= 1e-12 * max(1.0, float(np.abs(exact).max()))


@given(integer_specs(), st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_equalization_multiplies_every_layer_by_its_scales(spec: NetworkSpec, seed: int) -> None:
    model = random_model(spec, seed)
    scales = random_scales(spec, seed)
    pictures = np.random.default_rng(seed).random((1, spec.channels, 8, 12))
    pictures = filled(pictures, spec.scale) if spec.task == "downscale" else pictures
    before = run_layers(spec, model.weights, pictures)
    after = run_layers(spec, equalized(spec, model.weights, scales), pictures)
    for scale, (_, one), (_, other) in zip(scales, before, after, strict=False):
        np.testing.assert_allclose(other, one * scale[:, None, None], rtol=1e-9, atol=1e-9)


def test_scales_that_skips_do_not_share_would_not_be_exact() -> None:
    short = NetworkShorthand(task="denoise", width=4, depth=2, branches=("3x3",), skips=(Skip(0, 2),))
    model = random_model(expand(short))
    rng = np.random.default_rng(0)
    scales = [np.exp(rng.normal(0, 1, 4)) for _ in range(3)]
    pictures = rng.random((1, 1, 6, 6))
    other = run_network(model.spec, equalized(model.spec, model.weights, scales), pictures)
    assert np.abs(other - run_network(model.spec, model.weights, pictures)).max() > 1e-3


@given(integer_specs(), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.5, 1.0]))
@settings(max_examples=25, deadline=None)
def test_scales_fit_the_skips_and_are_moderate(spec: NetworkSpec, seed: int, strength: float) -> None:
    model = random_model(spec, seed)
    pictures = [np.random.default_rng(seed).random((spec.channels, 12, 12)).astype(F)]
    scales = equalizing_scales(spec, channel_extents(model, pictures), strength)
    for index, first in enumerate(joined_layers(spec)):
        assert np.array_equal(scales[index], scales[first])
        assert np.isfinite(scales[index]).all() and (scales[index] > 0).all()
        assert scales[index].max() / scales[index].min() <= 64.01
        assert strength > 0 or np.allclose(scales[index], 1)


def test_channels_get_all_of_the_range_they_can_have() -> None:
    spec = expand(NetworkShorthand(task="denoise", width=3, depth=0, branches=("1x1",)))
    extent = Extent(np.array([0.0, -1.0, -0.1]), np.array([4.0, 1.0, 0.0]), np.ones(3))
    (scales,) = equalizing_scales(spec, [extent], 1.0)
    low, high = (extent.lowest * scales).min(), (extent.highest * scales).max()
    touching = np.isclose(extent.lowest * scales, low) | np.isclose(extent.highest * scales, high)
    assert touching.all()


@given(st.integers(0, 2**32 - 1), st.floats(-2, 2), st.floats(0.01, 3))
@settings(max_examples=40, deadline=None)
def test_ranges_lose_no_more_than_the_whole_range(seed: int, shift: float, spread: float) -> None:
    values = np.random.default_rng(seed).normal(shift, spread, (2, 30, 30))
    params = best_quant_params([values], [1.0])
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    whole = QuantParams((high - low) / 255, round(-low / ((high - low) / 255)))
    errors = [float(np.square(values - rounded(values, to)).mean()) for to in (params, whole)]
    assert errors[0] <= errors[1] * 1.02  # a histogram stands for the values
    assert rounded(np.zeros(1), params) == 0


def test_a_range_of_nothing_but_zeros_is_a_range() -> None:
    params = best_quant_params([np.zeros((2, 3, 3))], [1.0])
    assert rounded(np.zeros(1), params) == 0


def products_of(read: np.ndarray, wanted: np.ndarray) -> Products:
    return Products(read @ read.T, wanted @ read.T)


def a_layer(seed: int, with_bias: bool) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Weight and bias of a layer, and its 18 inputs, which are correlated."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(0, 1, (18, 18)) @ rng.normal(0, 1, (18, 400)) + 3
    weight = rng.normal(0, 1, (5, 18)) * np.exp(rng.normal(0, 1, (5, 1)))
    return weight, rng.normal(0, 1, 5) if with_bias else None, mixed


def with_ones(read: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    return read if bias is None else np.concatenate([read, np.ones((1, read.shape[1]))])


def of_layer(weight: np.ndarray, bias: np.ndarray | None, read: np.ndarray) -> np.ndarray:
    return weight @ read + (0 if bias is None else bias[:, None])


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=25, deadline=None)
def test_rounded_weights_are_whole_multiples_near_the_layer(seed: int, with_bias: bool) -> None:
    weight, bias, read = a_layer(seed, with_bias)
    exact = of_layer(weight, bias, read)
    rounded = rounded_weights(weight, bias, products_of(with_ones(read, bias), exact), 0.01)
    levels = rounded.weight / rounded.scales[:, None]
    assert np.abs(levels - np.rint(levels)).max() < 1e-9 and np.abs(levels).max() < 127.5
    assert (
        np.square(of_layer(rounded.weight, rounded.bias, read) - exact).mean()
        < 1e-3 * np.square(exact).mean()
    )


@pytest.mark.parametrize("with_bias", [False, True])
def test_rounding_compensates_on_correlated_inputs(with_bias: bool) -> None:
    """On correlated inputs its error is less than two thirds of that of rounding to nearest."""
    lost = np.zeros(2)
    for seed in range(20):
        weight, bias, read = a_layer(seed, with_bias)
        exact = of_layer(weight, bias, read)
        rounded = rounded_weights(weight, bias, products_of(with_ones(read, bias), exact), 0.01)
        scales = np.abs(weight).max(1, keepdims=True) / 127
        nearest = of_layer(np.rint(weight / scales) * scales, bias, read)
        ours = of_layer(rounded.weight, rounded.bias, read)
        lost += [np.square((output - exact) / scales).mean() for output in (ours, nearest)]
    assert lost[0] < 2 / 3 * lost[1]


def test_the_bias_corrects_the_remaining_error() -> None:
    """Inputs with a mean, outputs that are off by a constant: the bias is corrected by it."""
    rng = np.random.default_rng(0)
    read = np.concatenate([rng.normal(2, 1, (8, 500)), np.ones((1, 500))])
    weight, bias = rng.normal(0, 1, (3, 8)), np.zeros(3)
    wanted = weight @ read[:-1] + np.array([[1.0], [-2.0], [3.0]])
    rounded = rounded_weights(weight, bias, products_of(read, wanted), 0.01)
    left = rounded.weight @ read[:-1] + rounded.bias[:, None] - wanted
    assert np.abs(left.mean(1)).max() < 1e-3


def test_nearly_dependent_inputs_are_damped_more() -> None:
    """Products of inputs that hardly differ, with the rounding errors of float32 sums."""
    rng = np.random.default_rng(0)
    read = np.concatenate([0.02 + 1e-5 * rng.normal(0, 1, (40, 3000)), np.ones((1, 3000))]).astype(np.float32)
    weight, bias = rng.normal(0, 1, (3, 40)), np.zeros(3)
    wanted = weight @ read[:-1]
    inputs = (read @ read.T).astype(np.float64)
    inputs[:40, :40] -= 1e-3 * np.eye(40)  # not positive definite even with the least damping
    rounded = rounded_weights(weight, bias, Products(inputs, wanted @ read.T.astype(np.float64)), 0.01)
    left = rounded.weight @ read[:-1] + rounded.bias[:, None] - wanted
    assert np.square(left).mean() < 1e-4 * np.square(wanted).mean()
    assert np.abs(rounded.weight).max() < 10 * np.abs(weight).max()  # not a solution of huge weights


def test_products_that_are_not_finite_are_refused() -> None:
    products = Products(np.full((3, 3), np.nan), np.zeros((2, 3)))
    with pytest.raises(OnebranchError, match="not finite"):
        rounded_weights(np.zeros((2, 2)), np.zeros(2), products, 0.01)


def test_silent_channels_and_their_biases_are_kept() -> None:
    read = np.concatenate([np.zeros((4, 50)), np.ones((1, 50))])
    rounded = rounded_weights(
        np.zeros((2, 4)), np.array([5.0, 0.0]), products_of(read, np.array([[5.0] * 50, [0.0] * 50])), 1e-3
    )
    assert np.allclose(rounded.bias, [5, 0], atol=1e-2) and not rounded.weight.any()
    assert np.abs(rounded.bias / (1e-3 * rounded.scales)).max() <= 2**22 * 1.01


@given(integer_specs(deepest=2), st.integers(0, 2**32 - 1))
@settings(max_examples=8, deadline=None)
def test_every_kind_of_network_is_quantized(spec: NetworkSpec, seed: int) -> None:
    """Better than cutting the tail's output to its mean: the loss is small against the signal."""
    model = random_model(spec, seed)
    crops = smooth_crops(spec, 3)
    quantized = quantize(model, crops)
    assert quantized.quantization["weights"] == fingerprint(quantized)
    for crop in crops:
        picture = filled(crop.given[None], spec.scale) if spec.task == "downscale" else crop.given[None]
        exact = run_network(spec, model.weights, picture)
        integer = run_integer_network(spec, quantized.weights, quantized.quantization, picture)
        assert integer.shape == exact.shape
        assert np.square(integer - exact).mean() <= 0.01 * np.square(exact).mean() + 1e-6


def test_integer_weights_follow_from_the_stored_floats() -> None:
    spec = expand(NetworkShorthand(task="upscale", width=4, depth=1, branches=("3x3",)))
    quantized = quantize(random_model(spec), smooth_crops(spec, 3))
    for index, layer in enumerate(integer_layers(spec, quantized.weights, quantized.quantization), start=1):
        stored = quantized.weights[f"{spec.names[index]}.branches.0.0.weight"]
        scales = np.array(quantized.quantization["layers"][index]["weight_scales"])[:, None, None, None]
        assert np.abs(stored / scales - layer.weight).max() < 1e-4


def test_a_file_that_version_0_1_quantized_is_read_and_runs_as_before() -> None:
    model = read(Path(__file__).parent / "data" / "quantized-0.1.safetensors")
    record = quantization_of(model.quantization, model.spec)
    assert record.layers[1].raw == QuantParams(0.02323892677531523, 105)
    assert record.calibration["data"] == "waves" and record.loss["loss_db"] == -0.0003
    assert plain_record(record) == model.quantization
    picture = np.linspace(0, 1, 35, dtype=F).reshape(1, 1, 5, 7)
    actual = run_integer_network(model.spec, model.weights, model.quantization, picture)
    assert actual.dtype == F and hashlib.sha256(actual.tobytes()).hexdigest() == OUTPUT_OF_0_1


def test_quantizing_is_deterministic_and_travels_in_the_file(tmp_path) -> None:
    spec = expand(NetworkShorthand(task="denoise", colour="rgb", width=4, depth=1, branches=("3x3",)))
    model, crops = random_model(spec, name="noise"), smooth_crops(spec, 4)
    quantized = quantize(model, crops)
    assert to_bytes(quantized) == to_bytes(quantize(model, crops))
    (tmp_path / "noise.safetensors").write_bytes(to_bytes(quantized))
    assert read(tmp_path / "noise.safetensors").quantization == quantized.quantization


def test_unmerged_networks_are_refused_with_advice_to_merge() -> None:
    spec = expand(NetworkShorthand(task="upscale", width=4, depth=1, branches="patent"))
    with pytest.raises(OnebranchError, match="merge the network first"):
        quantize(random_model(spec, name="big"), smooth_crops(spec, 1))


def a_folder(tmp_path, count: int = 6) -> str:
    """Pictures of awkward sizes, grey and coloured, 8 and 16 bits, in two folders."""
    rng = np.random.default_rng(5)
    (tmp_path / "more").mkdir()
    for index in range(count):
        shape = 31 + 7 * index, 42 - 3 * index, 1 if index % 2 else 3
        pixels = rng.integers(0, 2**16, shape).astype(np.uint16)
        pixels = pixels if index % 3 == 0 else (pixels >> 8).astype(np.uint8)
        write(StillPicture(pixels), tmp_path / ("more" if index > 3 else ".") / f"{index}.png")
    return str(tmp_path)


@pytest.mark.parametrize("colour", ["y", "rgb"])
@pytest.mark.parametrize(
    ("task", "scale"), [("upscale", 2), ("upscale", 3), ("downscale", 2), ("denoise", 1)]
)
def test_crops_are_what_the_network_takes_and_gives(tmp_path, task: str, scale: int, colour: str) -> None:
    spec = expand(
        NetworkShorthand(task=task, scale=scale, colour=colour, width=4, depth=0, branches=("3x3",))
    )
    folder = a_folder(tmp_path)
    crops = read_crops(folder, spec, 5)
    assert len(crops) == 5
    for crop, again in zip(crops, read_crops(folder, spec, 5), strict=True):
        assert np.array_equal(crop.given, again.given) and crop.given.dtype == F
        assert run_network(spec, random_model(spec).weights, crop.given[None])[0].shape == crop.wanted.shape
    if task != "denoise":
        assert all(crop.given.min() >= 0 and crop.given.max() <= 1 for crop in crops)
    else:
        noise = [float(np.std(crop.given - crop.wanted)) for crop in crops]
        assert noise[0] == 0 and noise == sorted(noise) and 40 / 255 < noise[-1] < 60 / 255


@pytest.mark.parametrize(("task", "scale"), [("upscale", 2), ("denoise", 1)])
def test_degraded_crops_are_clean_noisy_and_compressed_in_turn(tmp_path, task: str, scale: int) -> None:
    spec = expand(NetworkShorthand(task=task, scale=scale, colour="rgb", width=4, depth=0, branches=("3x3",)))
    for k in range(6):
        smooth = np.add.outer(np.arange(120), np.arange(120))[..., None] * np.ones(3)
        write(StillPicture(np.rint(smooth).astype(np.uint8)), tmp_path / f"{k}.png")
    clean = read_crops(tmp_path, spec, 6) if scale == 2 else None
    crops = read_crops(tmp_path, spec, 6, degraded=True)
    wanted = [crop.wanted if clean is None else clean[k].given for k, crop in enumerate(crops)]
    change = [float(np.std(crop.given - flat)) * 255 for crop, flat in zip(crops, wanted, strict=True)]
    assert change[0] == change[3] == 0
    assert 13 < change[1] < 17 and 3 < change[4] < 4.5  # noise of 15 and 3 grey levels
    assert 0 < change[5] <= change[2] < 4  # JPEG 80 and 40 of a smooth picture


def test_models_trained_on_degraded_pictures_are_calibrated_on_them() -> None:
    assert trained_on_degraded(load("restore-x2"))
    assert not trained_on_degraded(load("photo-x2"))
    assert not trained_on_degraded(replace(load("photo-x2"), recipe=None))


def test_held_out_crops_are_not_calibrated_on() -> None:
    crops = [Crop(np.full((1, 1, 1), k), np.zeros((1, 1, 1))) for k in range(9)]
    chosen, measured = held_out(crops)
    assert len(chosen) == 7 and [crop.given.item() for crop in measured] == [3, 7]
    with pytest.raises(OnebranchError, match="leave none to measure the loss on"):
        held_out(crops[:3])


def test_folders_without_enough_are_refused(tmp_path) -> None:
    spec = expand(NetworkShorthand(task="upscale", width=4, depth=0, branches=("3x3",)))
    with pytest.raises(OnebranchError, match="no picture"):
        read_crops(tmp_path, spec)
    write(StillPicture(np.zeros((7, 7, 3), np.uint8)), tmp_path / "tiny.png")
    with pytest.raises(OnebranchError, match="too small"):
        read_crops(tmp_path, spec)
    with pytest.raises(OnebranchError, match="at least 1"):
        read_crops(tmp_path, spec, 0)


def small(task: str = "upscale", **options: object) -> Model:
    """A small merged network whose output is near its input."""
    return calm_model(task=task, width=8, depth=2, branches=("3x3",), **options)


def test_the_command_writes_what_runs_and_says_what_it_lost(tmp_path, run: CommandLine) -> None:
    (tmp_path / "set").mkdir()
    folder, out = a_folder(tmp_path / "set"), tmp_path / "calm-int8.safetensors"
    save(small(), tmp_path / "calm.safetensors")
    arguments = ["quantize", tmp_path / "calm.safetensors", "--calibrate", folder, "-o", out]
    done = run(*arguments)
    quantized = read(out)
    loss = quantized.quantization["loss"]
    assert loss["data"] == "crops of pictures that were not used for calibration" and loss["pictures"] == 1
    assert loss["loss_db"] == pytest.approx(loss["psnr_float"] - loss["psnr_int8"], abs=2e-4)
    assert quantized.quantization["calibration"]["crops"] == 5
    assert quantized.quantization["calibration"]["data"] == "set"
    assert all(name in done.output for name in ("head", "blocks.1", "tail")) and "a loss of" in done.output
    assert "exists; choose another name" in run.refused(*arguments)


def test_the_command_keeps_the_scales_of_a_quantized_model(tmp_path, run: CommandLine) -> None:
    (tmp_path / "set").mkdir()
    folder, model = a_folder(tmp_path / "set"), small()
    first, trained, out = (tmp_path / f"{name}.safetensors" for name in ("first", "trained", "out"))
    save(quantize(model, smooth_crops(model.spec, 4)), first)
    save(replace(model, weights={name: value + F(1e-3) for name, value in model.weights.items()}), trained)
    run("quantize", trained, "--calibrate", folder, "--scales", first, "-o", out)
    kept = read(out)
    assert kept.quantization["layers"] == read(first).quantization["layers"]
    for layer in quantization_of(kept.quantization, kept.spec).layers[1:]:
        steps = np.array(layer.weight_scales)[:, None, None, None]
        levels = kept.weights[f"{layer.name}.branches.0.0.weight"] / steps
        np.testing.assert_allclose(levels, np.rint(levels), atol=1e-3)
        wanted = np.clip((model.weights[f"{layer.name}.branches.0.0.weight"] + F(1e-3)) / steps, -127, 127)
        assert np.abs(levels - wanted).max() <= 0.501
    refused = run.refused(
        "quantize", trained, "--calibrate", folder, "--scales", "photo-x2", "-o", out, "--overwrite"
    )
    assert "photo-x2 has no scales to keep" in refused
    nowhere = tmp_path / "absent" / "out.safetensors"
    assert "there is no folder" in run.refused("quantize", trained, "--calibrate", folder, "-o", nowhere)


def test_the_command_measures_on_a_folder(tmp_path, run: CommandLine) -> None:
    for name in ("set", "test"):
        (tmp_path / name).mkdir()
    folder, out = a_folder(tmp_path / "set"), tmp_path / "calm-int8.safetensors"
    rng = np.random.default_rng(1)
    for index in range(2):
        pixels = rng.integers(0, 256, (30, 41, 3)).astype(np.uint8)
        write(StillPicture(pixels), tmp_path / "test" / f"{index}.png")
    save(small(), tmp_path / "calm.safetensors")
    arguments = ["--calibrate", folder, "-o", out, "--evaluate", tmp_path / "test"]
    assert run("quantize", tmp_path / "calm.safetensors", *arguments).code == 0
    loss = read(out).quantization["loss"]
    assert loss["data"].startswith("test: x2, from bicubic 1/2") and loss["pictures"] == 2
    assert abs(loss["loss_db"]) < 0.5


def test_the_command_measures_no_loss_on_the_calibration_itself(tmp_path, run: CommandLine) -> None:
    (tmp_path / "set").mkdir()
    folder, out = a_folder(tmp_path / "set"), tmp_path / "out.safetensors"
    arguments = ["quantize", "photo-x2", "--calibrate", folder, "-o", out]
    assert "measured on other pictures" in run.refused(*arguments, "--evaluate", folder)
    assert "leave none to measure" in run.refused(*arguments, "--pictures", "2") and not out.exists()


def test_the_command_needs_a_merged_network(tmp_path, run: CommandLine) -> None:
    (tmp_path / "set").mkdir()
    out = tmp_path / "out.safetensors"
    folder = a_folder(tmp_path / "set")
    said = run.refused("quantize", "photo-x2-branches", "--calibrate", folder, "-o", out)
    assert "merge the network first" in said and not out.exists()


def running_mean(values: np.ndarray) -> np.ndarray:
    """Over 16 pixels: what is left of noise, but not of bands."""
    return np.convolve(values, np.ones(16) / 16, "valid")


def longest_run(values: np.ndarray) -> int:
    """Equal neighbours in 16 bits, at most."""
    changes = np.flatnonzero(np.diff(np.round(values * 257)))
    return int(np.diff([-1, *changes, len(values) - 1]).max())


@pytest.mark.parametrize("ends", [(0.1, 0.2), (0.3, 0.36), (0.7, 0.9)])
@pytest.mark.parametrize("name", ["photo-x2", "photo-x4", "shrink-x2"])
def test_a_smooth_gradient_gets_no_bands(name: str, ends: tuple[float, float]) -> None:
    """A 16-bit gradient of less than a fifth of a grey level a pixel: the output follows the float network's,
    changes from pixel to pixel, and takes no steps. In grey levels."""
    model, quantized = load(name), load(f"{name}-int8")
    ramp = np.round(np.linspace(*ends, 256) * 65535) / 65535
    picture = np.broadcast_to(ramp, (1, 1, 16, 256)).astype(F)
    exact = run_network(model.spec, model.weights, picture)[0, 0] * 255
    actual = run_integer_network(model.spec, quantized.weights, quantized.quantization, picture)[0, 0] * 255
    row = len(exact) // 2
    exact, actual = exact[row, 16:-16], actual[row, 16:-16]
    assert np.abs(actual - exact).max() < 1.25
    assert np.abs(running_mean(actual) - running_mean(exact)).max() < 0.35
    steepest = np.abs(np.diff(running_mean(exact))).max()
    assert np.abs(np.diff(running_mean(actual))).max() < steepest + 0.1
    assert longest_run(actual) <= 3
    bands = np.round(actual)  # what an 8-bit tail would give
    assert longest_run(bands) > 3 or steepest > 0.3


@pytest.mark.parametrize(
    ("name", "recorded", "here"),
    [("photo-x2", 0.05, 0.06), ("photo-x4", 0.05, 0.05), ("shrink-x2", 0.05, 0.05), ("denoise", 0.15, 0.5)],
)
def test_shipped_models_lose_what_they_say(name: str, recorded: float, here: float, crops: Path) -> None:
    """In decibels: what the file says, and what five photographs beside the calibration lose. Upscaling loses
    more where the float network is better than on the test set, and denoising where there is least noise."""
    model, quantized = load(name), load(f"{name}-int8")
    trained_in_8_bits = quantized.recipe["config"]["training"].get("quantization_aware", False)
    assert quantized.spec == model.spec and (quantized.recipe == model.recipe or trained_in_8_bits)
    assert quantized.quantization["loss"]["loss_db"] <= recorded
    assert loss_on_crops(model, quantized, read_crops(crops, model.spec)).decibels <= here


@pytest.mark.slow
def test_the_recorded_loss_is_the_measured_one(shared_data) -> None:
    model, quantized = load("photo-x2"), load("photo-x2-int8")
    loss = loss_on_folder(model, quantized, shared_data / "val" / "set14")
    assert loss.as_json() == pytest.approx(quantized.quantization["loss"], abs=1e-3)
