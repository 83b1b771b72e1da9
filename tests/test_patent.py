"""The `patent` preset from end to end: trained with its BN and a skip, frozen, merged, verified, run.

US 2025/0259275 A1, claims 8, 10 and 16: several trainable branches with BN, feature connections, replacement
of the trained block by the merged one.
"""

import numpy as np
import pytest
import torch
from PIL import Image

import onebranch
from onebranch.model import file
from onebranch.nn.network import load
from onebranch.runtime.selection import open_runtime
from onebranch.spec.network import Skip
from onebranch.spec.shorthand import NetworkShorthand
from onebranch.training.config import Config, Data, Training
from onebranch.training.loop import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> onebranch.Model:
    """A small `patent` network that was trained for sixty steps, the last fifteen with frozen BN."""
    folder = tmp_path_factory.mktemp("patent")
    small = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    Image.fromarray(small).resize((88, 72), Image.Resampling.BICUBIC).save(folder / "picture.png")
    skips = (Skip(0, 2), Skip(1, 2, "concatenate"))
    config = Config(
        name="patent",
        network=NetworkShorthand(task="upscale", width=4, depth=2, branches="patent", skips=skips),
        data=Data(train=str(folder), patch_size=12, cache=str(folder / "cache")),
        training=Training(steps=60, batch_size=4, warmup_steps=5, bn_freeze_fraction=0.25, threads=1),
    )
    return file.read(train(config, folder / "run", shown=False))


def outputs(model: onebranch.Model, size: tuple[int, int]) -> np.ndarray:
    picture = np.random.default_rng(1).random((1, 1, *size), np.float32)
    return open_runtime(model, "onnxruntime", 1).run(picture)


def test_training_moved_the_statistics_and_froze_them(trained):
    assert trained.recipe["batch_norm_frozen"] is True
    means = [v for k, v in trained.weights.items() if k.endswith("running_mean")]
    assert all(np.abs(mean).max() > 0 for mean in means)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (13, 6)])
def test_the_merged_network_gives_the_trained_networks_output(trained, size):
    merged, report = onebranch.merge(trained)
    assert [block.branches for block in merged.spec.all_blocks] == [("3x3",)] * 4
    assert report.changed
    picture = np.random.default_rng(1).random((1, 1, *size), np.float32)
    with torch.inference_mode():
        expected = load(trained.spec, trained.weights)(torch.from_numpy(picture)).numpy()
    np.testing.assert_allclose(outputs(merged, size), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    onebranch.verify(trained, merged)


@pytest.mark.parametrize("plan", [{"select": "random:3:7"}, {"group": "type"}, {"schedule": "growing:4"}])
def test_partly_merged_networks_merge_on_to_the_same(trained, plan):
    partly, _ = onebranch.merge(trained, onebranch.MergePlan(**plan))
    counts = [len(block.branches) for block in partly.spec.blocks]
    assert all(1 <= count < 5 for count in counts)
    wholly, _ = onebranch.merge(partly)
    expected = outputs(trained, (7, 8))
    bound = 1e-5 * np.abs(expected).max()
    for model in (partly, wholly):
        np.testing.assert_allclose(outputs(model, (7, 8)), expected, rtol=0, atol=bound)
