"""Fuzzing with a time budget (ONEBRANCH_FUZZ_SECONDS a test): results or clean refusals, nothing else."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from network_specs import network_specs, random_model
from onebranch.algebra.network import run_network
from onebranch.errors import OnebranchError
from onebranch.images.picture import Picture
from onebranch.images.reading import read
from onebranch.images.writing import write
from onebranch.model import file
from onebranch.runtime.onnxruntime import OnnxRuntime
from onebranch.spec.branch import parse
from onebranch.spec.shorthand import NetworkShorthand, expand

pytestmark = pytest.mark.slow

QUIET = list(HealthCheck)


def rounds(seconds: float) -> Iterator[np.random.Generator]:
    """Random generators, a new one each round, until the time is up; at least ten rounds."""
    start, number = time.monotonic(), 0
    while number < 10 or time.monotonic() - start < seconds:
        yield np.random.default_rng(number)
        number += 1


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """The bytes with one to eight of them changed, a piece cut out, doubled, or the end cut off."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 9))):
        if not changed:
            break
        offset, length = int(rng.integers(len(changed))), int(rng.integers(1, 64))
        match int(rng.integers(6)):
            case 0 | 1 | 2:
                changed[offset] = int(rng.integers(256))
            case 3:
                del changed[offset : offset + length]
            case 4:
                changed[offset:offset] = changed[offset : offset + length]
            case _:
                del changed[max(offset, len(changed) // 8) :]
    return bytes(changed)


def check_refusal(error: OnebranchError) -> None:
    """The message is one line that is not empty."""
    assert str(error).strip() and "\n" not in str(error), error


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".gif", ".bmp", ".avif"])
def test_mutated_pictures_are_read_or_refused(tmp_path, crops, suffix, fuzz_seconds):
    pixels = read(sorted(crops.glob("*.png"))[0]).pixels[:40, :56]
    whole = tmp_path / f"whole{suffix}"
    write(Picture(np.ascontiguousarray(pixels)), whole)
    content, outcomes = whole.read_bytes(), {"read": 0, "refused": 0}
    for rng in rounds(fuzz_seconds / 7):
        path = tmp_path / f"mutated{suffix}"
        path.write_bytes(mutated(content, rng))
        try:
            read(path, max_pixels=10_000_000)
            outcomes["read"] += 1
        except OnebranchError as error:
            check_refusal(error)
            outcomes["refused"] += 1
    assert outcomes["refused"] > 0, outcomes


def test_mutated_model_files_are_refused_or_sound(tmp_path, fuzz_seconds):
    spec = expand(NetworkShorthand(task="upscale", width=4, depth=1, branches="repvgg"))
    whole = tmp_path / "whole.safetensors"
    file.write(random_model(spec), whole)
    content, outcomes = whole.read_bytes(), {"read": 0, "refused": 0}
    for rng in rounds(fuzz_seconds):
        path = tmp_path / "mutated.safetensors"
        path.write_bytes(mutated(content, rng))
        try:
            model = file.read(path)
            file.check_tensors(model.spec, model.weights)
            outcomes["read"] += 1
        except OnebranchError as error:
            check_refusal(error)
            outcomes["refused"] += 1
    assert outcomes["refused"] > 0, outcomes


WORDS = [
    "3x3",
    "1x1*2",
    "bn",
    "identity",
    "d2",
    "dw",
    "g3",
    "nobias",
    "avg3x3",
    "sobel_x",
    "x",
    "0x0",
    "*",
    "",
]


def test_random_branches_are_parsed_or_refused(fuzz_seconds):
    for rng in rounds(fuzz_seconds / 4):
        text = " ".join(rng.choice(WORDS, int(rng.integers(0, 7))))
        try:
            assert parse(str(parse(text))) == parse(text)
        except OnebranchError as error:
            check_refusal(error)


def test_random_networks_run_as_they_are_defined(fuzz_seconds):
    end, number = time.monotonic() + fuzz_seconds, 0
    while number == 0 or time.monotonic() < end:
        number += 1
        seed(number)(agree)()


@given(network_specs(), st.integers(1, 17), st.integers(1, 17), st.integers(0, 2**31))
@settings(max_examples=20, deadline=None, derandomize=False, database=None, suppress_health_check=QUIET)
def agree(spec, height, width, number):
    model = random_model(spec, number)
    picture = np.random.default_rng(number).random((1, spec.channels, height, width), np.float32)
    expected = run_network(spec, model.weights, picture.astype(np.float64))
    result = OnnxRuntime(model, 1).run(picture)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))


def test_the_fuzzers_mutation_changes_something():
    content = bytes(range(256))
    assert sum(mutated(content, np.random.default_rng(s)) != content for s in range(50)) > 45


def test_no_mutation_leaves_files_behind(tmp_path: Path):
    path = tmp_path / "broken.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    with pytest.raises(OnebranchError):
        read(path)
    assert list(tmp_path.iterdir()) == [path]
