"""All output is the same for every PYTHONHASHSEED: it does not depend on the order of sets."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import onebranch
from network_specs import calm_model

DATA = Path(__file__).parent / "data"

SEEDS = ("0", "1", "2", "3")

COMMANDS = """
import hashlib, pathlib, sys
from onebranch import cli

def run(*words):
    sys.argv = ["onebranch", *map(str, words)]
    try:
        cli.main()
    except SystemExit as stop:
        assert not stop.code, words

out, branches, data, sums = map(pathlib.Path, sys.argv[1:])
out.mkdir()
merged = out / "merged.safetensors"
run("merge", branches, "-o", merged)
run("merge", sums, "-o", out / "merged.onnx")
run("verify", sums, out / "merged.onnx")
run("export", merged, "-o", out / "exported.onnx")
run("draw", branches, merged, "-o", out / "drawn.svg")
run("quantize", merged, "--calibrate", data, "-o", out / "quantized.safetensors", "--pictures", 4)
run("evaluate", "-m", merged, "-d", data, "--json")
for file in sorted(out.iterdir()):
    print(file.name, hashlib.sha256(file.read_bytes()).hexdigest())
"""


def summing_network() -> onnx.ModelProto:
    """Activations that several sums read, before convolutions: operations with several reasons each."""
    random = np.random.default_rng(0)
    weights = {f"w{n}": random.normal(size=(8, 8, 3, 3)).astype(np.float32) for n in range(8)}
    nodes = [helper.make_node("Conv", ["x", f"w{n}"], [f"c{n}"], pads=[1] * 4) for n in range(5)]
    nodes += [helper.make_node("Sum", [f"c{n}" for n in range(5)], ["s"])]
    nodes += [helper.make_node("Conv", ["s", f"w{n}"], [f"d{n}"]) for n in (5, 6, 7)]
    nodes += [helper.make_node("Sum", ["d5", "d6", "d7"], ["y"])]
    nodes += [helper.make_node("Relu", [f"c{n}"], [f"r{n}"]) for n in range(5)]
    nodes += [helper.make_node("Sum", [f"r{n}" for n in range(5)], ["z"])]
    kind = onnx.TensorProto.FLOAT
    shapes = {"x": ["n", 8, "h", "w"], "y": ["n", 8, "k", "l"], "z": ["n", 8, "h", "w"]}
    values = {name: helper.make_tensor_value_info(name, kind, shape) for name, shape in shapes.items()}
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "sums", [values["x"]], [values["y"], values["z"]], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.fixture(scope="module")
def printed(tmp_path_factory) -> list[str]:
    """What all commands print and write, once for every seed."""
    folder = tmp_path_factory.mktemp("seeds")
    model = calm_model(task="upscale", branches=("3x3*2 bn 1x1", "1x1", "identity"))
    onebranch.save(model, folder / "branches.safetensors")
    onnx.save(summing_network(), folder / "sums.onnx")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", COMMANDS, "out", "../branches.safetensors", str(DATA), "../sums.onnx"],
            cwd=made(folder / seed),
            env={**os.environ, "PYTHONHASHSEED": seed, "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in SEEDS
    ]
    outputs = [process.communicate() for process in processes]
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors
    return [output for output, _ in outputs]


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_every_command_writes_and_prints_the_same_under_every_hash_seed(printed):
    assert all(f"{name} " in printed[0] for name in ("merged.onnx", "quantized.safetensors", "drawn.svg"))
    for other in printed[1:]:
        assert other == printed[0]


def test_the_network_that_is_merged_has_several_reasons_for_one_operation():
    """Without several reasons, the test could not detect a dependence on their order."""
    _, report = onebranch.merge(summing_network())
    assert any(";" in entry.reason for entry in report.unmerged)
