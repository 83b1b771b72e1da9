"""Merging models and verifying the result: what is stored, what is found again, tampering of every kind."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from command_line import CommandLine
from network_specs import random_model
from onebranch import verification
from onebranch.algebra.network import run_network
from onebranch.blocks import merge as block_merge
from onebranch.blocks.plan import MergePlan
from onebranch.cli.proof import words
from onebranch.errors import OnebranchError
from onebranch.merging.dispatch import merge
from onebranch.model.file import Model, fingerprint, read, write
from onebranch.runtime.onnxruntime import OnnxRuntime
from onebranch.spec.network import Skip
from onebranch.spec.shorthand import BlockShorthand, NetworkShorthand, expand
from onebranch.verification import Record, record_of, verify

ROOT = Path(__file__).resolve().parent.parent

MIXED = ("3x3*2 bn 1x1", "1x1 3x3 bn", "identity bn", "identity", "avg3x3 1x1")


def network(branches=MIXED, **settings) -> Model:
    """Skips of both kinds together with BN branches, as in claim 16."""
    skips = (Skip(0, 1), Skip(0, 2, "concatenate"), Skip(1, 2))
    blocks = {"task": "upscale", "width": 4, "depth": 2, "skips": skips, "residual": "bicubic"} | settings
    return random_model(expand(NetworkShorthand(branches=branches, **blocks)), 3, "mixed")


@pytest.fixture(scope="module")
def pair() -> tuple[Model, Model]:
    """A model and its merge; nothing changes them."""
    original = network()
    return original, merge(original)[0]


def tampered(merged: Model, **changes) -> Model:
    """The merged model with a changed record and the original seal."""
    return replace(merged, merge={**merged.merge, **changes})


def resealed(merged: Model, record: Record) -> Model:
    """The merged model with another record and a valid seal."""
    sealed = msgspec.structs.replace(record, seal=verification._seal(record))
    return replace(merged, merge=msgspec.to_builtins(sealed))


def moved(model: Model, name: str) -> Model:
    """The model with the last value of a tensor one float larger."""
    value = model.weights[name].copy()
    value.flat[-1] = np.nextafter(value.flat[-1], np.float32(np.inf))
    return replace(model, weights={**model.weights, name: value})


def test_a_merged_model_is_of_the_same_kind_and_gives_the_same_output(pair):
    original, merged = pair
    assert [block.branches for block in merged.spec.all_blocks] == [("3x3",)] * 4
    assert merged.spec.skips == original.spec.skips
    assert merged.name == original.name
    for size in ((1, 1), (1, 6), (5, 2), (9, 13)):
        picture = np.random.default_rng(0).random((1, 1, *size), np.float32)
        expected = run_network(original.spec, original.weights, picture.astype(np.float64))
        actual = OnnxRuntime(merged, 1).run(picture)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))


def test_the_record_says_what_was_done(pair):
    original, merged = pair
    record = record_of(merged)
    assert record.plan == MergePlan()
    assert (record.original, record.merged) == (fingerprint(original), fingerprint(merged))
    assert [block.name for block in record.blocks] == ["head", "blocks.0", "blocks.1", "tail"]
    assert record.blocks[1].before == MIXED
    assert all(len(block.groups) == 1 for block in record.blocks)
    assert record.network.runtime == "onnxruntime"
    assert 0 < record.network.float64_error < 1e-6
    assert 0 < record.network.runtime_error < 1e-5
    assert record.earlier is None
    json.dumps(merged.merge, allow_nan=False)


def test_verifying_finds_everything_again(pair):
    original, merged = pair
    assert verify(original, merged) == record_of(merged)


def test_a_file_on_disk_verifies(pair, tmp_path):
    for name, model in zip(("original", "merged"), pair, strict=True):
        write(model, tmp_path / f"{name}.safetensors")
    original, merged = (read(tmp_path / f"{name}.safetensors") for name in ("original", "merged"))
    assert verify(original, merged).merged == fingerprint(pair[1])
    assert verify(tmp_path / "original.safetensors", str(tmp_path / "merged.safetensors")) == verify(*pair)


@pytest.mark.parametrize("task", ["upscale", "downscale", "denoise"])
@pytest.mark.parametrize("colour", ["y", "rgb"])
def test_every_task_and_colour_is_verified(task, colour):
    original = network(task=task, colour=colour)
    merged, _ = merge(original, MergePlan(group="type", schedule="growing:4"))
    verify(original, merged)


@pytest.mark.parametrize(
    "tensor",
    [
        "head.branches.0.0.bias",
        "blocks.1.branches.0.0.weight",
        "blocks.0.activation.weight",
        "tail.branches.0.0.weight",
    ],
)
def test_a_merged_weight_that_is_one_float_off_is_found(pair, tensor):
    original, merged = pair
    spoiled = moved(merged, tensor)
    with pytest.raises(OnebranchError, match="the merged model's weights are not those of the proof"):
        verify(original, spoiled)
    forged = resealed(spoiled, msgspec.structs.replace(record_of(merged), merged=fingerprint(spoiled)))
    region = tensor.split(".branches")[0].split(".activation")[0]
    with pytest.raises(OnebranchError, match=rf"{region}.*(rounding|must not change)"):
        verify(original, forged)


@pytest.mark.parametrize(
    "tensor",
    ["blocks.0.branches.0.1.running_var", "blocks.1.branches.2.1.running_mean", "tail.branches.1.0.weight"],
)
def test_another_original_is_found(pair, tensor):
    original, merged = pair
    spoiled = moved(original, tensor)
    with pytest.raises(OnebranchError, match="the original model's weights are not those of the proof"):
        verify(spoiled, merged)
    value = original.weights[tensor].copy()
    value.flat[0] += 1e-3
    other = replace(original, weights={**original.weights, tensor: value})
    forged = resealed(merged, msgspec.structs.replace(record_of(merged), original=fingerprint(other)))
    with pytest.raises(OnebranchError, match="rounding"):
        verify(other, forged)


@pytest.mark.parametrize(
    "changes",
    [
        {"residual": "none"},
        {"residual": "nearest"},
        {"skips": (Skip(0, 1), Skip(0, 2, "concatenate"))},
        {"skips": (Skip(0, 1), Skip(0, 2, "concatenate"), Skip(0, 2))},
    ],
    ids=str,
)
def test_another_spec_is_found(pair, changes):
    original, merged = pair
    spoiled = replace(merged, spec=msgspec.structs.replace(merged.spec, **changes))
    with pytest.raises(OnebranchError, match="gives another network"):
        verify(original, spoiled)


def test_another_activation_is_found():
    original = network(activation="relu")
    merged, _ = merge(original)
    block = msgspec.structs.replace(merged.spec.blocks[0], activation="leaky_relu")
    spec = msgspec.structs.replace(merged.spec, blocks=(block, *merged.spec.blocks[1:]))
    with pytest.raises(OnebranchError, match="gives another network"):
        verify(original, replace(merged, spec=spec))


def test_a_changed_plan_is_found_even_where_it_does_the_same(pair):
    original, merged = pair
    for select in ("random:99:0", "name:0,1"):
        plan = {**merged.merge["plan"], "select": select}
        with pytest.raises(OnebranchError, match="seal"):
            verify(original, tampered(merged, plan=plan))
    forged = msgspec.structs.replace(record_of(merged), plan=MergePlan(select="name:0,1"))
    with pytest.raises(OnebranchError, match="gives another network"):
        verify(original, resealed(merged, forged))


def test_changed_numbers_are_found(pair):
    original, merged = pair
    record = record_of(merged)
    blocks = [dict(block) for block in merged.merge["blocks"]]
    blocks[0]["parameters"] = [1, 1]
    with pytest.raises(OnebranchError, match="seal"):
        verify(original, tampered(merged, blocks=blocks))
    fewer = msgspec.structs.replace(record.blocks[1], macs=(1, 1))
    forged = msgspec.structs.replace(record, blocks=(record.blocks[0], fewer, *record.blocks[2:]))
    with pytest.raises(OnebranchError, match="is not the one that is found"):
        verify(original, resealed(merged, forged))
    better = msgspec.structs.replace(record.network, runtime_error=0.0)
    flattered = resealed(merged, msgspec.structs.replace(record, network=better))
    assert verify(original, flattered).network == record.network


def test_a_damaged_or_missing_record_is_one_line(pair):
    original, merged = pair
    with pytest.raises(OnebranchError, match="carries no proof"):
        verify(original, replace(merged, merge=None))
    with pytest.raises(OnebranchError, match="has version 99; this onebranch reads 1 to 2"):
        verify(original, tampered(merged, version=99))
    with pytest.raises(OnebranchError, match="the stored proof: unknown key 'blocs'; did you mean 'blocks'"):
        verify(original, tampered(merged, blocs=[]))
    with pytest.raises(OnebranchError, match="the stored proof"):
        verify(original, tampered(merged, network=None))


def test_files_in_the_wrong_order_are_refused(pair):
    original, merged = pair
    with pytest.raises(OnebranchError, match="carries no proof"):
        verify(merged, original)


def test_merging_on_keeps_the_earlier_record_and_both_steps_verify(pair):
    original, _ = pair
    half, _ = merge(original, MergePlan(identity=False))
    whole, report = merge(half)
    assert report.changed
    assert whole.merge["earlier"] == half.merge
    assert [block.branches for block in whole.spec.all_blocks] == [("3x3",)] * 4
    verify(original, half)
    verify(half, whole)
    with pytest.raises(OnebranchError, match="the original model's weights are not those of the proof"):
        verify(original, whole)


def test_nothing_left_to_do_is_reported_and_verifies(pair):
    _, merged = pair
    again, report = merge(merged)
    assert again is merged
    assert not report.changed
    assert report.summary() == "nothing to merge under this plan"
    record = verify(merged, again)
    assert record.notes == ("both models hold the same network; nothing was merged",)
    none, report = merge(network(), MergePlan(select="kernel:9x9"))
    assert not report.changed
    assert none.merge is None


def test_the_report_counts(pair):
    original, _ = pair
    _, report = merge(original)
    plain = report.as_json()
    assert plain["parameters"] == list(report.parameters)
    assert report.parameters[1] < report.parameters[0] / 2
    assert report.macs[1] < report.macs[0] / 2
    assert "16 branches to 4" in report.summary()
    json.dumps(plain, allow_nan=False)


def test_a_plan_may_be_a_file(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text("identity = false\nhead_and_tail = false\n")
    merged, _ = merge(network(), path)
    assert merged.spec.blocks[0].branches == ("3x3", "identity bn", "identity")
    assert record_of(merged).plan == MergePlan(identity=False, head_and_tail=False)


@pytest.mark.parametrize(
    ("recipe", "said"),
    [({"batch_norm_frozen": False}, True), ({"batch_norm_frozen": True}, False), ({}, False), (None, False)],
    ids=str,
)
def test_a_batch_norm_that_was_never_frozen_is_noted(recipe, said):
    original = replace(network(), recipe=recipe)
    merged, report = merge(original)
    assert merged.recipe == recipe
    assert ("never frozen" in " ".join(report.record.notes)) == said
    assert any("never frozen" in line for line in words(report.record)) == said
    bare, plain = merge(replace(network(("3x3", "1x1")), recipe={"batch_norm_frozen": False}))
    assert plain.record.notes == ()
    assert bare.merge["notes"] == ()


def wrong_collapse(branch, tensors, like, inputs, width):
    """The laws with a fault: batch normalization's shift is forgotten where the branch is wide."""
    conv = RIGHT_COLLAPSE(branch, tensors, like, inputs, width)
    return replace(conv, bias=conv.bias * (1 - 1e-9))


RIGHT_COLLAPSE = block_merge.collapse


def test_a_merge_that_fails_its_proof_gives_nothing(monkeypatch):
    monkeypatch.setattr(block_merge, "collapse", wrong_collapse)
    with pytest.raises(OnebranchError, match=r"the merge of head \(.*\) fails its proof: basis: "):
        merge(network())


class Biased(OnnxRuntime):
    """A runtime that is wrong for merged networks."""

    def __init__(self, model: Model, threads: int | None = None) -> None:
        super().__init__(model, threads)
        self.merged = all(len(block.branches) == 1 for block in model.spec.all_blocks)

    def run(self, pictures):
        return super().run(pictures) + np.float32(1e-3 * self.merged)


def test_a_runtime_that_is_off_fails_the_whole_network(monkeypatch):
    monkeypatch.setattr(verification, "open_runtime", lambda model, name, threads: Biased(model, threads))
    with pytest.raises(OnebranchError, match="network: in onnxruntime the merged network is off by"):
        merge(network())


def test_merging_and_verifying_need_no_torch(pair, tmp_path):
    write(pair[0], tmp_path / "a.safetensors")
    code = (
        "import sys; sys.modules['torch'] = None; from onebranch.model.file import read;"
        "from onebranch.merging.dispatch import merge; from onebranch.verification import verify;"
        "a = read(sys.argv[1]); verify(a, merge(a)[0]); print('done')"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.safetensors")]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, check=False
    )
    assert done.stdout == "done\n", done.stderr


@pytest.fixture
def onebranch(monkeypatch, capsys) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


@pytest.fixture
def file(pair, tmp_path) -> Path:
    path = tmp_path / "original.safetensors"
    write(pair[0], path)
    return path


def test_the_commands_merge_and_verify(onebranch, file, tmp_path):
    out = tmp_path / "merged.safetensors"
    done = onebranch(
        "merge", file, "-o", out, "--group", "type", "--schedule", "same:4", "--without-head-and-tail"
    )
    assert done.code == 0, done.errors
    for word in ("blocks.1", "3x3*2 bn 1x1", "Structure", "Basis", "Rounding", "Network", "Hashes", "2r + 2"):
        assert word in done.output
    assert read(out).spec.blocks[0].branches == ("3x3", "1x1 dw", "avg3x3 1x1")
    checked = onebranch("verify", file, out)
    assert checked.code == 0, checked.errors
    assert "verified" in checked.output
    assert json.loads(onebranch("verify", file, out, "--json").output)["plan"]["group"] == "type"


def test_the_command_merge_prints_json(onebranch, file, tmp_path):
    done = onebranch("merge", file, "-o", tmp_path / "m.safetensors", "--select", "random:2:5", "--json")
    values = json.loads(done.output)
    assert values["plan"]["select"] == "random:2:5"
    assert len(values["blocks"]) == 4


def test_a_plan_file_or_options_not_both(onebranch, file, tmp_path):
    plan, out = tmp_path / "plan.toml", tmp_path / "m.safetensors"
    plan.write_text('select = "convs:2"\n')
    assert "not both" in onebranch.refused("merge", file, "-o", out, "--plan", plan, "--group", "size")
    assert onebranch("merge", file, "-o", out, "--plan", plan).code == 0
    assert record_of(read(out)).plan == MergePlan(select="convs:2")


def test_nothing_to_do_still_writes_the_file(onebranch, file, tmp_path):
    once, twice = tmp_path / "once.safetensors", tmp_path / "twice.safetensors"
    onebranch("merge", file, "-o", once)
    done = onebranch("merge", once, "-o", twice)
    assert done.code == 0
    assert "Nothing to merge" in done.output
    assert twice.read_bytes() == once.read_bytes()
    assert onebranch("verify", once, twice).code == 0


def test_an_existing_file_is_kept_without_overwrite(onebranch, file, tmp_path):
    out = tmp_path / "there.safetensors"
    out.write_text("precious")
    assert "exists" in onebranch.refused("merge", file, "-o", out)
    assert out.read_text() == "precious"
    assert onebranch("merge", file, "-o", out, "--overwrite").code == 0
    assert read(out).merge


def test_a_failing_proof_writes_nothing(onebranch, file, tmp_path, monkeypatch):
    monkeypatch.setattr(block_merge, "collapse", wrong_collapse)
    before = sorted(tmp_path.iterdir())
    assert "fails its proof: basis" in onebranch.refused("merge", file, "-o", tmp_path / "m.safetensors")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--select", "kernal:3x3"), "did you mean 'kernel'"),
        (("--schedule", "same"), "not of the form 'same:M'"),
        (("--group", "every:0"), "not of the form 'every:J'"),
        (("--select", "name:7x7"), "no block has a branch '7x7'"),
        (("--plan", "nowhere.toml"), "nowhere.toml: cannot read this plan"),
    ],
)
def test_a_mistake_in_a_plan_is_one_line(onebranch, file, tmp_path, options, message):
    assert message in onebranch.refused("merge", file, "-o", tmp_path / "m.safetensors", *options)
    assert not (tmp_path / "m.safetensors").exists()


def test_verify_refuses_a_file_without_a_proof(onebranch, pair, file, tmp_path):
    bare = tmp_path / "bare.safetensors"
    write(replace(pair[1], merge=None), bare)
    assert "carries no proof" in onebranch.refused("verify", file, bare)


def test_a_large_kernel_says_which_sizes_were_tried():
    plain = BlockShorthand("plain")
    original = network(("11x1", "3x3"), depth=1, skips=(), width=2, head=plain, tail=plain)
    _, report = merge(original)
    basis = next(line for line in words(report.record) if line.startswith("Basis"))
    assert "radii of 5 or more only 1, 2, 2r, 2r + 1 and 2r + 2" in basis
