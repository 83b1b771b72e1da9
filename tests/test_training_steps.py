"""The steps of a training run: their schedule, the optimizers, distillation, and batches made ahead."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from interrupted_training import assert_resumes_bit_for_bit
from onebranch.errors import OnebranchError
from onebranch.model import file
from onebranch.nn.network import Network, weights_of
from onebranch.spec.shorthand import NetworkShorthand, expand
from onebranch.training import checkpoint, ema
from onebranch.training import config as configs
from onebranch.training import step as steps
from onebranch.training.config import Config, Data, Training, TrainingStage
from onebranch.training.log import read as read_log
from onebranch.training.loop import train
from onebranch.training.objective import Objective, attention, objective_of
from onebranch.training.optimizers import MUON_UPDATE_RMS, Muon, orthogonalized, set_learning_rate
from onebranch.training.process import join
from onebranch.training.schedule import Schedule
from onebranch.training.state import initial_state
from smooth_pictures import write_smooth_pictures

SHORT = {"steps": 12, "batch_size": 4, "warmup_steps": 2, "validate_every": 6, "checkpoint_every": 4}
SHORT |= {"threads": 1, "prelu": "native"}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """A folder of two small smooth pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    write_smooth_pictures({folder / f"p{index}.png": (40, 44) for index in range(2)})
    return folder


def settings(pictures, tmp_path, **training) -> Config:
    """A tiny run."""
    return Config(
        name="tiny",
        network=NetworkShorthand(task="upscale", width=4, depth=2, branches=("3x3*2 1x1", "identity")),
        data=Data(train=str(pictures), cache=str(tmp_path / "cache"), patch_size=8),
        training=Training(**{**SHORT, **training}),
    )


def schedule_of(**training) -> Schedule:
    data = Data(train="p", patch_size=10)
    network = NetworkShorthand(task="upscale")
    return Schedule(Config(name="x", network=network, data=data, training=Training(**training)))


def test_a_stage_changes_what_it_names_and_keeps_the_rest():
    stages = (
        TrainingStage(start_fraction=0.5, loss="mse"),
        TrainingStage(start_fraction=0.75, batch_size=64, ema_decay=0.5),
    )
    schedule = schedule_of(steps=100, batch_size=16, ema_decay=0.9, stages=stages)
    facts = [(s.settings.loss, s.settings.batch_size, s.settings.ema_decay) for s in schedule.stages]
    assert facts == [("l1", 16, 0.9), ("mse", 16, 0.9), ("mse", 64, 0.5)]
    assert [schedule.stage(step).first for step in (0, 49, 50, 74, 75, 99, 100)] == [0, 0, 50, 50, 75, 75, 75]


def test_pixels_are_counted_with_the_batch_size_of_each_stage():
    schedule = schedule_of(steps=100, batch_size=2, stages=(TrainingStage(start_fraction=0.5, batch_size=6),))
    assert [schedule.pixels(step) for step in (0, 1, 50, 51, 100)] == [0, 200, 10_000, 10_600, 40_000]


def test_a_length_in_pixels_counts_the_stages(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(
        "name = 'x'\n[network]\ntask = 'upscale'\n[data]\ntrain = 'p'\npatch_size = 10\n"
        "[training]\nbatch_size = 2\npixels = '40K'\n[[training.stages]]\nstart_fraction = 0.5\n"
        "batch_size = 6\n"
    )
    config = configs.read(path)
    assert config.training.steps == 100
    assert Schedule(config).pixels(100) == 40_000


def test_a_stage_with_a_learning_rate_begins_a_new_cosine():
    stages = (TrainingStage(start_fraction=0.75, learning_rate=0.01),)
    schedule = schedule_of(steps=1000, warmup_steps=100, learning_rate=0.1, stages=stages)
    rates = [schedule.learning_rate(step) for step in range(1000)]
    assert rates[99] == 0.1 and rates[749] < 1e-5 and rates[750] == 0.01 and rates[999] < 1e-5
    assert rates[425] == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ("[[training.stages]]\nstart_fraction = 1.5", r"\(number 1\)\.start_fraction' must be from 0.0 to 1"),
        (
            "[[training.stages]]\nstart_fraction = 0.5\n[[training.stages]]\nstart_fraction = 0.4",
            r"\(number 2\)\.start_fraction' must be at least 0.5",
        ),
        ("[[training.stages]]\nloss = 'l1'", "missing required field 'start_fraction'"),
        ("[[training.stages]]\nstart_fraction = 0.5\nbatch_size = 0", "batch_size' must be at least 1"),
        ("[training]\nworkers = -1", "'training.workers' must be at least 0"),
        ("[training]\noptimizer = 'moun'", "did you mean 'muon'"),
    ],
)
def test_a_wrong_stage_is_one_clear_line(tmp_path, stages, message):
    path = tmp_path / "c.toml"
    path.write_text(f"name = 'x'\n[network]\ntask = 'upscale'\n[data]\ntrain = 'p'\n{stages}\n")
    with pytest.raises(OnebranchError, match=message):
        configs.read(path)


def test_a_run_with_stages_resumes_bit_for_bit(pictures, tmp_path, monkeypatch):
    stages = (TrainingStage(start_fraction=0.5, loss="mse", batch_size=6, learning_rate=1e-3),)
    config = settings(pictures, tmp_path, stages=stages, optimizer="muon")
    assert_resumes_bit_for_bit(config, tmp_path, (5, 7), monkeypatch)


def test_a_checkpoint_without_newer_keys_resumes(pictures, tmp_path):
    config = settings(pictures, tmp_path)
    path = train(config, tmp_path / "run", shown=False).with_name("checkpoint.safetensors")
    process = join(config.training)
    state = initial_state(config, process)
    progress = checkpoint.read_progress(path)
    for key in ("stages", "teacher", "teacher_weight", "teacher_features_weight", "workers"):
        del progress.config["training"][key]
    checkpoint.write(path, state.network, state.average, state.optimizer, progress)
    assert train(config, tmp_path / "run", shown=False).exists()


def test_the_processor_time_of_a_resumed_run_goes_on(pictures, tmp_path):
    config = settings(pictures, tmp_path, steps=40)
    train(config, tmp_path / "run", shown=False, limit_seconds=0.0)
    first = checkpoint.read_progress(tmp_path / "run" / "checkpoint.safetensors")
    assert first.step == 1
    model = file.read(train(config, tmp_path / "run", shown=False))
    times = [record["core_seconds"] for record in read_log(tmp_path / "run" / "log.jsonl")]
    assert times == sorted(times) and first.core_seconds < times[-1]
    assert model.recipe["core_hours"] == pytest.approx(times[-1] / 3600, abs=1e-3)


def test_processes_and_a_thread_prepare_the_same_batches(pictures, tmp_path):
    results = [
        file.read(train(settings(pictures, tmp_path, workers=workers), tmp_path / str(workers), shown=False))
        for workers in (0, 2)
    ]
    for name, value in results[0].weights.items():
        np.testing.assert_array_equal(results[1].weights[name], value, err_msg=name)


def test_orthogonalized_matrices_keep_their_singular_vectors():
    torch.manual_seed(0)
    for shape in ((3, 5, 9), (2, 9, 5)):
        matrices = torch.randn(shape, dtype=torch.float64)
        results = orthogonalized(matrices)
        left, _, right = torch.linalg.svd(matrices, full_matrices=False)
        values = torch.diagonal(left.mT @ results @ right.mT, dim1=1, dim2=2)
        assert values.min() > 0.6 and values.max() < 1.3
        rest = results - left @ torch.diag_embed(values) @ right
        assert rest.abs().max() < 1e-12


def test_muon_updates_kernels_by_the_size_of_an_adam_update_and_the_rest_as_adam():
    torch.manual_seed(0)
    kernel, bias = (torch.nn.Parameter(torch.randn(shape)) for shape in ((16, 8, 3, 3), (16,)))
    twin = torch.nn.Parameter(bias.detach().clone())
    ours, adam = Muon([kernel], [bias], 0.1), torch.optim.Adam([twin], lr=0.1)
    for _ in range(5):
        before = kernel.detach().clone()
        kernel.grad, bias.grad = torch.randn_like(kernel), torch.randn_like(bias)
        twin.grad = bias.grad.clone()
        ours.step()
        adam.step()
        change = float((kernel.detach() - before).square().mean().sqrt()) / 0.1
        assert change == pytest.approx(MUON_UPDATE_RMS, rel=0.25)
    torch.testing.assert_close(bias, twin)


def test_muon_takes_the_kernels_inside_the_blocks_only(pictures, tmp_path):
    config = settings(pictures, tmp_path, optimizer="muon")
    state = initial_state(config, join(config.training))
    kernels, rest = (group["params"] for group in state.optimizer.param_groups)
    names = {id(p): n for n, p in state.network.named_parameters()}
    assert sorted(names[id(p)] for p in kernels) == [
        f"blocks.{block}.branches.0.{step}.weight" for block in range(2) for step in range(2)
    ]
    assert len(kernels) + len(rest) == len(names)


def test_a_tensor_as_the_share_of_the_average_gives_the_same_average():
    torch.manual_seed(0)
    network = Network(expand(NetworkShorthand(task="upscale", width=4, depth=1))).double()
    averages = [ema.averaged_copy(network) for _ in range(2)]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter))
    ema.update(averages[0], network, 0.125)
    ema.update(averages[1], network, torch.tensor(0.125, dtype=torch.float64))
    for first, second in zip(averages[0].parameters(), averages[1].parameters(), strict=True):
        torch.testing.assert_close(first, second)


def test_a_captured_step_computes_what_a_plain_one_does(pictures, tmp_path, monkeypatch):
    """The GPU's step on the CPU: fixed inputs, a tensor as learning rate, no check in between."""
    config = settings(pictures, tmp_path, optimizer="muon", precision="float64")
    process = join(config.training)
    schedule, objective = Schedule(config), objective_of(config, process)
    monkeypatch.setattr(steps, "captured", lambda operations: operations)
    results = []
    for captures in (False, True):
        state = initial_state(config, process)
        if captures:
            state.optimizer = Muon(*(g["params"] for g in state.optimizer.param_groups), torch.tensor(0.0))
        step = steps.OptimizationStep(state, objective, process, config.training, schedule.stage(0))
        step.captures, step.eager_steps = captures, steps.EAGER_STEPS
        rng = torch.Generator().manual_seed(1)
        for number in range(4):
            halves = (torch.rand(2, 1, side, side, generator=rng, dtype=torch.float64) for side in (8, 16))
            step.run(*halves, schedule.learning_rate(number), tmp_path / "none")
        results.append((step.mean_loss(tmp_path / "none"), weights_of(state.average)))
    assert results[0][0] == pytest.approx(results[1][0])
    for name, value in results[0][1].items():
        np.testing.assert_allclose(results[1][1][name], value, rtol=1e-6, atol=1e-9, err_msg=name)


def test_a_captured_step_that_diverges_is_reported_before_a_checkpoint(pictures, tmp_path, monkeypatch):
    config = settings(pictures, tmp_path, optimizer="muon")
    process = join(config.training)
    monkeypatch.setattr(steps, "captured", lambda operations: operations)
    state = initial_state(config, process)
    objective = objective_of(config, process)
    step = steps.OptimizationStep(state, objective, process, config.training, Schedule(config).stage(0))
    step.captures, step.eager_steps = True, steps.EAGER_STEPS
    step.run(torch.full((1, 1, 8, 8), float("nan")), torch.zeros(1, 1, 16, 16), 0.1, tmp_path / "none")
    step.run(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 16, 16), 0.1, tmp_path / "none")
    with pytest.raises(OnebranchError, match="training diverged"):
        step.check_finite(tmp_path / "none")


def test_a_learning_rate_is_set_where_it_is_a_tensor_too():
    parameter = torch.nn.Parameter(torch.zeros(2, 2, 1, 1))
    for rate in (0.1, torch.tensor(0.1)):
        optimizer = Muon([parameter], [], rate)
        set_learning_rate(optimizer, 0.5)
        assert float(optimizer.param_groups[0]["lr"]) == 0.5


def teacher_file(tmp_path, **network) -> str:
    spec = expand(NetworkShorthand(**({"task": "upscale", "width": 6, "depth": 1} | network)))
    torch.manual_seed(5)
    path = tmp_path / "teacher.safetensors"
    file.write(file.Model(spec=spec, weights=weights_of(Network(spec))), path)
    return str(path)


def test_a_teacher_adds_the_distance_to_its_results_and_its_attention(pictures, tmp_path):
    path = teacher_file(tmp_path)
    config = settings(pictures, tmp_path, teacher=path, teacher_weight=0.5, teacher_features_weight=2.0)
    objective = objective_of(config, join(config.training))
    torch.manual_seed(1)
    network, inputs, labels = Network(config.spec), torch.rand(2, 1, 8, 8), torch.rand(2, 1, 16, 16)
    outputs = network(inputs)
    targets = objective.teacher.network(inputs)
    loss = objective(network, inputs, labels)
    plain = Objective(config.training)(lambda _: outputs, inputs, labels)
    apart = (outputs - targets).abs().mean()
    rest = (loss - plain - 0.5 * apart).detach()
    assert float(rest) > 1e-4  # what is left is the difference of the attention maps
    loss.backward()
    assert all(p.grad is None for p in objective.teacher.network.parameters())
    assert train(config, tmp_path / "run", shown=False).exists()


def test_attention_has_a_mean_of_one_and_does_not_depend_on_the_width():
    features = torch.rand(2, 3, 4, 5)
    torch.testing.assert_close(attention(features).mean((1, 2)), torch.ones(2))
    torch.testing.assert_close(attention(torch.cat([features, features], 1) * 7), attention(features))


def test_a_teacher_of_another_task_is_refused(pictures, tmp_path):
    path = teacher_file(tmp_path, scale=3)
    config = settings(pictures, tmp_path, teacher=path)
    with pytest.raises(
        OnebranchError, match=r"'training\.teacher' must upscale x2 in 'y', not upscale x3 in 'y'"
    ):
        train(config, tmp_path / "run", shown=False)


def test_the_picture_residual_keeps_its_precision_under_autocast():
    torch.manual_seed(0)
    network = Network(expand(NetworkShorthand(task="upscale", width=4, depth=1, residual="nearest")))
    with torch.no_grad():
        for parameter in network.tail.parameters():
            parameter.zero_()
    picture = torch.rand(1, 1, 9, 7)
    with torch.autocast("cpu", torch.bfloat16):
        result = network(picture)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result[..., ::2, ::2], picture, rtol=0, atol=0)


@pytest.mark.parametrize(("depth", "exact"), [(0, True), (1, False)])
def test_head_and_tail_keep_their_precision_under_autocast(depth, exact):
    torch.manual_seed(0)
    network = Network(expand(NetworkShorthand(task="upscale", width=4, depth=depth, branches="plain")))
    network.set_mode("merged")
    picture = torch.rand(1, 1, 9, 7)
    with torch.autocast("cpu", torch.bfloat16):
        result = network(picture)
    assert result.dtype == torch.float32
    assert torch.equal(result, network(picture)) == exact
    torch.testing.assert_close(result, network(picture), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("downsampling", ["convolution", "unshuffle", "average"])
def test_a_downsampling_layer_keeps_its_precision_under_autocast(downsampling):
    torch.manual_seed(0)
    network = Network(
        expand(
            NetworkShorthand(task="downscale", width=4, depth=0, branches="plain", downsampling=downsampling)
        )
    )
    network.set_mode("merged")
    picture = torch.rand(1, 1, 10, 8)
    with torch.autocast("cpu", torch.bfloat16):
        result = network(picture)
    assert torch.equal(result, network(picture))


def test_a_restorer_that_learns_is_trained_and_written_too(pictures, tmp_path):
    path = teacher_file(tmp_path)
    basic = settings(pictures, tmp_path)
    network = NetworkShorthand(task="downscale", width=4, depth=1, downsampling="average")
    training = Training(**SHORT, restorer=path, restorer_learns=True, optimizer="muon")
    config = msgspec.structs.replace(basic, network=network, training=training)
    whole = file.read(train(config, tmp_path / "whole", shown=False))
    restorer = file.read(tmp_path / "whole" / "tiny-restorer.safetensors")
    before = file.read(Path(path))
    assert restorer.spec == before.spec and restorer.name == "tiny-restorer"
    assert all((restorer.weights[name] != before.weights[name]).any() for name in before.weights)
    checkpoint_model = file.read(tmp_path / "whole" / "checkpoint.safetensors")
    assert checkpoint_model.spec == whole.spec and checkpoint_model.weights.keys() == whole.weights.keys()


def test_a_restorer_can_learn_only_where_there_is_one(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(
        "name = 'x'\n[network]\ntask = 'downscale'\n[data]\ntrain = 'p'\n[training]\nrestorer_learns = true\n"
    )
    with pytest.raises(OnebranchError, match=r"'training\.restorer_learns' needs 'training\.restorer'"):
        configs.read(path)


def test_a_checkpoint_read_as_a_model_has_the_name_of_its_file(pictures, tmp_path):
    train(settings(pictures, tmp_path), tmp_path / "run", shown=False)
    assert file.read(tmp_path / "run" / "checkpoint.safetensors").name == "checkpoint"
