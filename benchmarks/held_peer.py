"""OpenVINO in a process of its own, held to an instruction set by `ONEDNN_MAX_CPU_ISA`.

oneDNN reads that variable when it is loaded, so each instruction set needs a process. The parent names a
precision on standard input; the child runs the network once and answers with a line.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from benchmarks.configurations import Run
from benchmarks.isolated import python_environment
from benchmarks.networks import Network
from onebranch.errors import OnebranchError
from onebranch.model.file import Model, read, write

VARIABLE = "ONEDNN_MAX_CPU_ISA"


class HeldPeer:
    """OpenVINO, restricted to `isa`, with a network in fp32 and int8 and a random picture of that size.

    A context manager: the process ends with the context. Raises OnebranchError if it does not start.
    """

    def __init__(self, isa: str, network: Network, size: tuple[int, int], threads: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="onebranch-bench-")
        models = {"fp32": network.merged, "int8": network.quantized}
        paths = {
            precision: str(Path(self._folder.name) / f"{precision}.safetensors")
            for precision, model in models.items()
            if model is not None
        }
        for precision, path in paths.items():
            model = models[precision]
            assert model is not None, "only those are stored"
            write(model, path)
        self.precisions = tuple(paths)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.held_peer"],
            env={**python_environment(), VARIABLE: isa},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._ask(json.dumps({"paths": paths, "size": size, "threads": threads}))

    def run(self, precision: str) -> None:
        """Run the network once."""
        self._ask(precision)

    def _ask(self, line: str) -> None:
        """Send a line and wait for the answer."""
        assert self._process.stdin is not None and self._process.stdout is not None, "both are pipes"
        try:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        if self._process.stdout.readline() != "done\n":
            raise OnebranchError("OpenVINO failed in its own process; see the messages above")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        assert self._process.stdin is not None and self._process.stdout is not None, "both are pipes"
        self._process.terminate()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        self._folder.cleanup()


def _opened(model: Model, precision: str, threads: int) -> Run:
    """The network in OpenVINO; in int8 also where its products saturate, which takes the same time."""
    from onebranch.graph.onnx.writing import to_onnx
    from onebranch.lowering.floats import INPUT, lower
    from onebranch.lowering.integers import lower_integer
    from onebranch.runtime.openvino import compiled
    from onebranch.spec.quantization import quantization_of

    graph = lower(model.spec, model.weights)
    if precision == "int8":
        record = quantization_of(model.quantization or {}, model.spec)
        graph = lower_integer(model.spec, model.weights, record)
    network = compiled(to_onnx(graph), threads, "f32")
    return lambda picture: network({INPUT: picture})[0]


def _serve() -> None:
    """Open the networks that the first line names, then run one for every further line."""
    facts = json.loads(sys.stdin.readline())
    models = {precision: read(path) for precision, path in facts["paths"].items()}
    runs = {precision: _opened(model, precision, facts["threads"]) for precision, model in models.items()}
    channels = next(iter(models.values())).spec.channels
    picture = np.random.default_rng(0).random((1, channels, *facts["size"]), np.float32)
    print("done", flush=True)
    for line in sys.stdin:
        runs[line.strip()](picture)
        print("done", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _serve()
