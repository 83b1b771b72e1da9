"""The runtimes: they agree, they are found by name, ONNX Runtime needs no PyTorch."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import onebranch
from network_specs import network_specs, random_model
from onebranch.errors import OnebranchError
from onebranch.runtime.selection import chosen, open_runtime
from onebranch.spec.network import NetworkSpec
from onebranch.spec.shorthand import NetworkShorthand, expand

TOLERANCE = 1e-5
"""Relative to the largest value: two float32 sums of the same products in different orders."""


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(network_specs(), st.integers(1, 13), st.integers(1, 13), st.integers(0, 99))
def test_onnxruntime_and_torch_agree(spec: NetworkSpec, height: int, width: int, seed: int) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: the two runtimes were not compared")
    model = random_model(spec, seed)
    pictures = np.random.default_rng(seed).random((2, spec.channels, height, width), np.float32)
    ours = open_runtime(model, "onnxruntime", threads=1)
    torch = open_runtime(model, "torch", threads=1)
    one, other = ours.run(pictures), torch.run(pictures)
    assert one.shape == other.shape
    assert one.dtype == other.dtype == np.float32
    assert ours.halo == torch.halo
    np.testing.assert_allclose(one, other, rtol=0, atol=TOLERANCE * max(1, np.abs(one).max()))


def test_threads_do_not_change_the_result() -> None:
    model = random_model(expand(NetworkShorthand(task="upscale", depth=2, branches="plain")))
    pictures = np.random.default_rng(0).random((1, 1, 65, 43), np.float32)
    one, two = (open_runtime(model, threads=n).run(pictures) for n in (1, 2))
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-6)


def test_unknown_names_and_thread_counts_are_refused() -> None:
    model = random_model(expand(NetworkShorthand(task="denoise", depth=0, branches="plain")))
    assert open_runtime(model).name == open_runtime(model, "auto").name == chosen(model).runtime
    with pytest.raises(OnebranchError, match="unknown runtime 'onnxruntim'; did you mean 'onnxruntime'"):
        open_runtime(model, "onnxruntim")
    with pytest.raises(OnebranchError, match="threads must be at least 1, not 0"):
        open_runtime(model, threads=0)


def test_a_runtime_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "onebranch.runtime.torch", raising=False)
    model = random_model(expand(NetworkShorthand(task="denoise", depth=0, branches="plain")))
    with pytest.raises(OnebranchError, match=r"pip install 'onebranch\[train\]'"):
        open_runtime(model, "torch")


def test_onnxruntime_needs_no_torch() -> None:
    code = "import sys, onebranch.runtime.onnxruntime; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(onebranch.__file__).parent.parent)}
    assert subprocess.run([sys.executable, "-c", code], check=False, env=environment).returncode == 0
