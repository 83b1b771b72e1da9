"""Compiled training steps: one graph, the results of other steps, and runs without a compiler."""

from pathlib import Path

import numpy as np
import pytest
import torch

from interrupted_training import assert_resumes_bit_for_bit
from onebranch.errors import OnebranchError
from onebranch.model.file import Model, read
from onebranch.nn.network import Network
from onebranch.spec.shorthand import NetworkShorthand, expand
from onebranch.training import computation, step
from onebranch.training.config import Config, Data, Training, TrainingStage
from onebranch.training.loop import train
from smooth_pictures import write_smooth_pictures

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
"""PyTorch's compiler imports parts of PyTorch that are deprecated."""

BRANCHES = {
    "plain": "plain",
    "four branches": ("3x3*2 1x1", "1x1*2 3x3", "3x3", "identity"),
    "edge filters": "ecb",
    "batch normalization": "repvgg",
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    write_smooth_pictures({folder / f"{index}.png": (40, 45) for index in range(3)})
    return folder


def settings(pictures: Path, tmp_path: Path, network: dict | None = None, **training) -> Config:
    small = {"task": "upscale", "width": 4, "depth": 2, "branches": BRANCHES["four branches"]}
    short = {"steps": 8, "batch_size": 2, "warmup_steps": 2, "validate_every": 8, "threads": 1}
    folders = {"train": str(pictures), "validation": str(pictures), "cache": str(tmp_path / "cache")}
    return Config(
        name="tiny",
        network=NetworkShorthand(**{**small, **(network or {})}),
        data=Data(**folders, patch_size=8, validation_pictures=1),
        training=Training(**{**short, **training}),
    )


def trained(config: Config, out: Path, *, shown: bool = False) -> Model:
    return read(train(config, out, shown=shown))


def largest_difference(one: Model, other: Model) -> float:
    return max(float(np.abs(one.weights[name] - other.weights[name]).max()) for name in one.weights)


@pytest.mark.parametrize("mode", ["merged", "branches"])
@pytest.mark.parametrize("branches", BRANCHES)
def test_a_step_is_traced_as_one_graph(branches: str, mode) -> None:
    built = Network(expand(NetworkShorthand(task="upscale", width=4, depth=3, branches=BRANCHES[branches])))
    if mode == "merged":
        built.freeze_batch_norms()
    built.set_mode(mode)
    built.set_prelu("native")
    torch._dynamo.reset()
    explained = torch._dynamo.explain(built)(torch.rand(2, 1, 9, 8))
    assert explained.graph_break_count == 0, explained.break_reasons


def _tracing(monkeypatch) -> list[Network]:
    """PyTorch's tracing backend in place of the compiler, which takes a minute; the networks it traced."""
    traced: list[Network] = []

    def compiled(network: Network):
        traced.append(network)
        return torch.compile(network, backend="aot_eager", dynamic=False)

    monkeypatch.setattr(computation, "compiled", compiled)
    monkeypatch.setattr(step, "compiled", compiled)
    return traced


def test_traced_steps_train_what_other_steps_train(pictures, tmp_path, monkeypatch) -> None:
    plain = trained(settings(pictures, tmp_path, compile="never"), tmp_path / "never")
    traced = _tracing(monkeypatch)
    assert largest_difference(plain, trained(settings(pictures, tmp_path, compile="always"), tmp_path)) < 1e-4
    assert len(traced) == 2  # for the trial and for the steps


def test_every_size_of_a_batch_and_every_mode_is_compiled(pictures, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(torch._dynamo.config, "fail_on_recompile_limit_hit", True)
    traced = _tracing(monkeypatch)
    stages = (
        TrainingStage(start_fraction=0.25, batch_size=3),
        TrainingStage(start_fraction=0.5, batch_size=2),
    )
    network = {"branches": BRANCHES["batch normalization"]}
    config = settings(pictures, tmp_path, network, compile="always", stages=stages, bn_freeze_fraction=0.25)
    trained(config, tmp_path / "run")
    assert len(traced) == 2 * 4  # three stages; in the last, batch normalization is frozen


@pytest.mark.parametrize("with_compiler", [True, False])
def test_a_run_with_stages_resumes_bit_for_bit(pictures, tmp_path, monkeypatch, with_compiler) -> None:
    """Also without a compiler, where timing must not choose another PReLU after the resume."""
    if with_compiler:
        _tracing(monkeypatch)
    else:
        monkeypatch.setattr(computation, "compiled", _without_compiler)
        monkeypatch.setattr(computation, "STEPS_WORTH_COMPILING", 1)
        choices = iter(("masked", "masked", "relu", "relu"))  # one for every fresh run
        monkeypatch.setattr(computation, "_fastest_prelu", lambda _: next(choices))
    stages = (
        TrainingStage(start_fraction=0.25, batch_size=3),
        TrainingStage(start_fraction=0.75, batch_size=2),
    )
    how = "always" if with_compiler else "auto"
    config = settings(pictures, tmp_path, compile=how, steps=12, checkpoint_every=1, stages=stages)
    assert_resumes_bit_for_bit(config, tmp_path, (5, 10), monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "training", "bound"),
    [
        ({}, {}, 1e-4),
        ({"branches": BRANCHES["batch normalization"]}, {"steps": 10, "bn_freeze_fraction": 0.5}, 1e-3),
        ({"branches": BRANCHES["edge filters"]}, {"optimizer": "muon"}, 1e-3),
        ({"task": "downscale", "scale": 2}, {"restorer": "photo-x2"}, 1e-4),
        ({"task": "upscale"}, {"precision": "bfloat16"}, 2e-2),
    ],
    ids=["four branches", "batch normalization", "edge filters", "restorer", "bfloat16"],
)
def test_every_kind_of_run_can_be_compiled(pictures, tmp_path, network, training, bound) -> None:
    results = [
        trained(settings(pictures, tmp_path, network, compile=choice, **training), tmp_path / choice)
        for choice in ("never", "always")
    ]
    assert 0 < largest_difference(*results) < bound


@pytest.mark.slow
def test_a_compiled_run_resumes_bit_for_bit(pictures, tmp_path, monkeypatch) -> None:
    config = settings(pictures, tmp_path, compile="always", steps=12, checkpoint_every=4)
    assert_resumes_bit_for_bit(config, tmp_path, (5, 10), monkeypatch)


def _without_compiler(_):
    def run(_):
        raise RuntimeError("No working C++ compiler found\nmore lines")

    return run


def test_without_a_compiler_a_run_goes_on_and_says_so(pictures, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(computation, "compiled", _without_compiler)
    monkeypatch.setattr(computation, "STEPS_WORTH_COMPILING", 1)
    trained(settings(pictures, tmp_path), tmp_path / "run", shown=True)
    shown = "".join(capsys.readouterr())
    assert "steps are not compiled from here on, and slower: No working C++ compiler found" in shown


def test_a_run_that_must_be_compiled_ends_without_a_compiler(pictures, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(computation, "compiled", _without_compiler)
    with pytest.raises(OnebranchError, match=r"'training.compile' = \"always\", but .*No working C\+\+"):
        trained(settings(pictures, tmp_path, compile="always"), tmp_path / "run")


def _must_not_compile(_):
    raise AssertionError("a compiled run")


@pytest.mark.parametrize("choice", ["auto", "never"])
def test_short_runs_are_not_compiled(pictures, tmp_path, monkeypatch, choice) -> None:
    monkeypatch.setattr(computation, "compiled", _must_not_compile)
    if choice == "never":
        monkeypatch.setattr(computation, "STEPS_WORTH_COMPILING", 1)
    trained(settings(pictures, tmp_path, compile=choice), tmp_path / choice)


@pytest.mark.parametrize(
    ("task", "training"),
    [
        ("downscale", {"restorer": "photo-x2", "restorer_learns": True}),
        ("upscale", {"teacher": "photo-x2"}),
    ],
)
def test_compiling_is_refused_where_it_cannot_be(pictures, tmp_path, task, training) -> None:
    config = settings(pictures, tmp_path, {"task": task, "scale": 2}, compile="always", **training)
    with pytest.raises(OnebranchError, match="is for one process on the CPU, without"):
        trained(config, tmp_path / "run")
