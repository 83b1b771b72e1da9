"""The model file: what is written is read, and damage of every kind is one clear line."""

import contextlib
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save_file

from onebranch.errors import OnebranchError
from onebranch.model.file import Model, expected_tensors, fingerprint, read, to_bytes, write
from onebranch.spec.network import NetworkSpec, Skip, parameters
from onebranch.spec.presets import PRESETS
from onebranch.spec.shorthand import NetworkShorthand, expand
from quantized_models import random_quantized

pytestmark = pytest.mark.fast


def example(seed: int = 0, **options: object) -> Model:
    """A small model with random weights."""
    small = {"task": "upscale", "width": 4, "depth": 1, "branches": "patent"}
    spec = expand(NetworkShorthand(**small | options))
    rng = np.random.default_rng(seed)
    weights = {n: rng.random(s, np.float32) + 0.1 for n, s in expected_tensors(spec).items()}
    return Model(spec, weights, "example")


def learnt(spec: NetworkSpec) -> int:
    """Learnt numbers among the expected tensors: all but the running statistics."""
    shapes = expected_tensors(spec).items()
    return sum(int(np.prod(shape)) for name, shape in shapes if ".running_" not in name)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_tensors_are_the_parameters_of_the_spec(preset: str) -> None:
    spec = expand(NetworkShorthand(task="upscale", width=6, depth=2, branches=preset))
    assert learnt(spec) == parameters(spec)


@pytest.mark.parametrize("layer", ["convolution", "unshuffle", "average"])
def test_tensors_include_the_downsampling_layer(layer: str) -> None:
    tail = {} if layer != "average" else {"colour": "rgb"}
    spec = expand(NetworkShorthand(task="downscale", width=3, depth=1, downsampling=layer, **tail))
    assert learnt(spec) == parameters(spec)
    assert ("resample.weight" in expected_tensors(spec)) == (layer != "average")


def test_what_is_written_is_read(tmp_path) -> None:
    recipe, merge, scores = {"batch_norm_frozen": True}, {"plan": {"select": "all"}}, {"set5": 37.1}
    model = replace(example(), recipe=recipe, merge=merge, scores=scores)
    write(model, tmp_path / "small.safetensors")
    again = read(tmp_path / "small.safetensors")
    assert (again.spec, again.name, again.recipe, again.merge, again.scores) == (
        model.spec,
        "small",
        recipe,
        merge,
        scores,
    )
    assert all(np.array_equal(again.weights[name], model.weights[name]) for name in model.weights)
    assert list(tmp_path.iterdir()) == [tmp_path / "small.safetensors"]


def test_the_file_is_plain_safetensors_and_its_bytes_are_deterministic(tmp_path) -> None:
    model = example()
    data = to_bytes(model)
    tensors = load(data)
    assert {name: value.tobytes() for name, value in tensors.items()} == {
        name: value.tobytes() for name, value in model.weights.items()
    }
    write(model, tmp_path / "a.safetensors")
    assert to_bytes(replace(read(tmp_path / "a.safetensors"), name="other")) == data


def test_an_existing_file_is_kept_without_overwrite(tmp_path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"precious")
    with pytest.raises(OnebranchError, match="it exists"):
        write(example(), path)
    assert path.read_bytes() == b"precious"
    write(example(), path, overwrite=True)
    assert read(path).spec == example().spec


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch) -> None:
    path = tmp_path / "model.safetensors"
    write(example(), path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OnebranchError, match="no space left on device"):
        write(example(seed=1), path, overwrite=True)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_one_line(tmp_path) -> None:
    with pytest.raises(OnebranchError, match=r"cannot write .*no such file"):
        write(example(), tmp_path / "absent" / "model.safetensors")


def test_weights_are_read_only_and_independent_of_the_caller() -> None:
    model = example()
    name = next(iter(model.weights))
    with pytest.raises(ValueError):
        model.weights[name][:] = 0
    mine = {n: v.copy() for n, v in model.weights.items()}
    again = Model(model.spec, mine)
    mine[name][:] = 7
    assert fingerprint(again) == fingerprint(model)


def test_the_fingerprint_covers_every_tensor() -> None:
    model = example()
    prints = {fingerprint(model)}
    for name, value in model.weights.items():
        changed = value.copy()
        changed.flat[-1] = np.nextafter(changed.flat[-1], np.float32(2))
        prints.add(fingerprint(Model(model.spec, {**model.weights, name: changed})))
    assert len(prints) == 1 + len(model.weights)


def test_wrong_tensors_are_named() -> None:
    model = example()
    name = "blocks.0.branches.1.0.weight"

    def check(value: np.ndarray, message: str, key: str = name) -> None:
        with pytest.raises(OnebranchError, match=message):
            Model(model.spec, {**model.weights, key: value})

    good = model.weights[name]
    check(good[..., :2], rf"'{name}' has shape \(8, 4, 3, 2\) where the spec says \(8, 4, 3, 3\)")
    check(good.astype(np.float64), "float64")
    check(np.full_like(good, np.nan), f"'{name}' holds NaN")
    check(np.full_like(good, np.inf), "infinite")
    check(good, "'blocks.0.branches.1.0.weights' is not part .*did you mean", f"{name}s")
    variance = "head.branches.0.1.running_var"
    check(-model.weights[variance], "negative variances", variance)
    with pytest.raises(OnebranchError, match=f"'{name}' is missing"):
        Model(model.spec, {k: v for k, v in model.weights.items() if k != name})


def test_foreign_and_damaged_files_are_one_clear_line(tmp_path) -> None:
    model, path = example(), tmp_path / "bad.safetensors"

    def check(message: str) -> None:
        with pytest.raises(OnebranchError, match=message) as caught:
            read(path)
        assert "bad.safetensors" in str(caught.value) and "\n" not in str(caught.value)

    check("no such file")
    for content in (b"", b"PK\x03\x04" + bytes(40), b"\x80\x02}q\x00." * 9, to_bytes(model)[:-1]):
        path.write_bytes(content)
        check("neither a complete safetensors file nor an ONNX file")
    header = json.loads(to_bytes(model)[8 : 8 + _header(model)])
    metadata = header["__metadata__"]
    for changed, message in [
        ({}, "not a model of onebranch"),
        (metadata | {"onebranch": "9"}, "version '9'"),
        (metadata | {"speck": "{}"}, "unknown metadata key 'speck'; did you mean 'spec'"),
        ({"onebranch": "1"}, "'spec' is missing"),
        (metadata | {"spec": "{"}, "not valid JSON"),
        (metadata | {"spec": metadata["spec"].replace("colour", "color")}, "'color'.*did you mean 'colour'"),
        (metadata | {"scores": "[1]"}, "'scores' must be a JSON object"),
    ]:
        save_file(dict(model.weights), path, changed)
        check(message)
    path.unlink()
    path.mkdir()
    check("cannot read|not a whole")


def _header(model: Model) -> int:
    return int.from_bytes(to_bytes(model)[:8], "little")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_damage_is_read_right_or_refused(tmp_path_factory, data) -> None:
    content = bytearray(to_bytes(example()))
    offset = data.draw(st.integers(0, min(len(content) - 1, _header(example()) + 16)))
    content[offset] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([len(content), len(content) // 2, offset]))
    path = tmp_path_factory.mktemp("damage") / "damaged.safetensors"
    path.write_bytes(content[:cut])
    with contextlib.suppress(OnebranchError):
        read(path)


def quantized_example() -> Model:
    """A small quantized model, with one of every kind of layer."""
    spec = expand(
        NetworkShorthand(task="upscale", width=4, depth=2, branches=("3x3",), skips=(Skip(0, 1), Skip(1, 2)))
    )
    return random_quantized(spec)


def test_a_record_of_quantization_travels_with_the_model(tmp_path) -> None:
    model = quantized_example()
    write(model, tmp_path / "small.safetensors")
    assert read(tmp_path / "small.safetensors").quantization == model.quantization
    assert b"quantization" not in to_bytes(replace(model, quantization=None))


def edited(record: dict, path: str, value: object) -> dict:
    """A copy of the record with the value at a path such as "layers.1.name" replaced; None removes it."""
    copy = json.loads(json.dumps(record))
    parent, (*keys, last) = copy, [int(k) if k.isdigit() else k for k in path.split(".")]
    for key in keys:
        parent = parent[key]
    if value is None:
        del parent[last]
    else:
        parent[last] = value
    return copy


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("version", 2, "2"),
        ("version", None, "version"),
        ("layer", [], "unknown key 'layer'"),
        ("layers.1.output.zeropoint", 3, "unknown key 'zeropoint'"),
        ("layers", [], "must be head, blocks.0, blocks.1, tail, not none"),
        ("layers.1.name", "blocks.7", "not head, blocks.7"),
        ("layers.0.output", None, "head must have 'output'"),
        ("layers.0.weight_scales", [1.0] * 4, "head must have no 'weight_scales'"),
        ("layers.1.raw", None, "blocks.0 must have 'raw'"),
        ("layers.2.raw", {"scale": 1.0, "zero_point": 0}, "blocks.1 must have no 'raw'"),
        ("layers.3.output", {"scale": 1.0, "zero_point": 0}, "tail must have no 'output'"),
        ("layers.1.weight_scales", [1.0] * 3, "3 weight scales, not 4"),
        ("layers.1.weight_scales", [1.0, 1.0, -1.0, 1.0], "scale -1"),
        ("layers.1.output.scale", 0.0, "scale 0"),
        ("layers.1.output.scale", float("inf"), "scale inf"),
        ("layers.1.output.scale", float("nan"), "scale nan"),
        ("layers.1.output.scale", "1", "float"),
        ("layers.1.output.zero_point", -1, ">= 0"),
        ("layers.1.output.zero_point", 256, "<= 255"),
        ("layers.1.output.zero_point", 1.5, "int"),
        ("weights", "0" * 64, "other weights"),
        ("calibration", [1], "object"),
    ],
)
def test_a_record_of_quantization_that_does_not_fit_is_refused(path, value, said) -> None:
    model = quantized_example()
    with pytest.raises(OnebranchError, match=re.escape(said)):
        replace(model, quantization=edited(model.quantization, path, value))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"branches": "patent"}, "merge the network first"),
        ({"branches": ("3x3 bn",)}, "merge the network first"),
        ({"branches": ("3x3 d2",)}, "without groups and dilation"),
        ({"branches": ("3x3",), "activation": "silu"}, "activation 'silu'"),
        ({"branches": ("3x3",), "depth": 2, "skips": (Skip(0, 1, "concatenate"),)}, "concatenates"),
    ],
)
def test_networks_that_integers_do_not_take_have_no_record(options, said) -> None:
    with pytest.raises(OnebranchError, match=said):
        replace(example(**options), quantization={"version": 1, "layers": []})


def test_other_weights_do_not_keep_a_record_that_names_its_own() -> None:
    model = quantized_example()
    model = replace(model, quantization={**model.quantization, "weights": fingerprint(model)})
    weights = {name: value * np.float32(2) for name, value in model.weights.items()}
    with pytest.raises(OnebranchError, match="belongs to other weights"):
        replace(model, weights=weights)
