"""Mutated networks: a merge is refused in one line, left alone, or right; never silently wrong.

Every kind of mutation is tried here a few times, and in the slow tests on many more networks and places.
"""

import itertools
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

import onebranch
import onnx_mutations
import torch_mutations
from mutations import Expectation, Variant, judge
from onebranch.errors import OnebranchError
from onnx_editing import Edit, OnnxVariant
from onnx_networks import NETWORKS, picture

FEW, MANY = 2, 6
"""Variants of a kind: here, and in the slow tests."""

BOTH = {"force": True, "border_maps": True}
"""Options that allow every merge."""

pytestmark = pytest.mark.filterwarnings(
    # What torch.export says about torch's own code, and about modules whose attributes it cannot see through.
    "ignore:`isinstance\\(treespec, LeafSpec\\)` is deprecated:FutureWarning",
)


def spread(variants: Iterable[Variant], count: int) -> list[Variant]:
    """That many of the variants, evenly spread over them."""
    every = list(variants)
    return [every[k * len(every) // count] for k in range(count)] if len(every) > count else every


def any_of(variants: Iterable[Variant], kind: str) -> Variant:
    """One of the variants, by the name of their kind."""
    every = list(variants)
    return every[zlib.crc32(kind.encode()) % len(every)]


def held(variants: Iterable[Variant], **options: Any) -> int:
    """Judge the variants; returns how many of them run. A fault of any variant fails the test."""
    verdicts = {variant.name: judge(variant, **options) for variant in variants}
    working = {name: verdict for name, verdict in verdicts.items() if verdict.outcome != "broken"}
    faults = [f"{name}: {verdict}" for name, verdict in working.items() if verdict.faults]
    assert not faults, "\n".join(faults)
    return len(working)


@pytest.mark.parametrize("kind", onnx_mutations.MUTATIONS)
def test_mutated_graphs(kind):
    assert held(spread(onnx_mutations.variants(kind), FEW)) > 0


@pytest.mark.parametrize("options", [{}, BOTH])
@pytest.mark.parametrize("name", onnx_mutations.MODELS)
def test_single_models(name, options):
    assert held([onnx_mutations.single(name)], **options) == 1


@pytest.mark.parametrize("kind", torch_mutations.KINDS)
def test_mutated_modules(kind):
    assert held(spread(torch_mutations.variants(kind), 1)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", onnx_mutations.MUTATIONS)
def test_many_mutated_graphs(kind):
    assert held(spread(onnx_mutations.variants(kind), MANY)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", onnx_mutations.MUTATIONS)
def test_many_mutated_graphs_with_everything_allowed(kind):
    forced = [relaxed(variant) for variant in spread(onnx_mutations.variants(kind), MANY - 2)]
    assert held(forced, **BOTH) > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", torch_mutations.KINDS)
def test_many_mutated_modules_with_everything_allowed(kind):
    held([relaxed(any_of(torch_mutations.variants(kind), kind))], **BOTH)


def relaxed(variant: Any) -> Any:
    """The variant with border maps allowed: pairs that are otherwise kept apart may become one."""
    expectation = variant.expectation
    named = () if "border" in expectation.named else expectation.named
    return replace(variant, expectation=replace(expectation, apart=(), named=named))


def test_there_are_more_than_500_variants_that_run():
    every = [v for kind in onnx_mutations.MUTATIONS for v in spread(onnx_mutations.variants(kind), MANY)]
    working = sum(_runs(variant) for variant in every)
    assert len({variant.name for variant in every}) == len(every)
    assert working > 700, f"only {working} of {len(every)}"


def _runs(variant: OnnxVariant) -> bool:
    run = variant.runner(None)
    for inputs in variant.inputs():
        try:
            return run(inputs) is not None
        except Exception:
            continue
    return False


# The networks themselves can be merged: a tool that leaves everything alone does not pass.


@pytest.mark.parametrize("network", sorted(set(NETWORKS) - {"line", "volume"}))
def test_the_networks_themselves_are_merged(network):
    variant = OnnxVariant(network, NETWORKS[network](1), Expectation(merges=True))
    held([variant])


@pytest.mark.parametrize("network", torch_mutations.NETWORKS)
def test_the_modules_themselves_are_merged(network):
    function, _, parts = torch_mutations.NETWORKS[network]
    build = lambda: torch_mutations.Net(function, **parts()).eval()  # noqa: E731 - what a variant holds
    held([torch_mutations.TorchVariant(network, build, Expectation(merges=True))])


HARMLESS = ("identity slipped in", "dropout in evaluation mode", "cast to its own type")


@pytest.mark.parametrize(
    "kind", [*HARMLESS, "operations without names", "weight as an operation", "unchanged"]
)
def test_harmless_changes_do_not_keep_a_network_from_being_merged(kind):
    variants = [v for v in onnx_mutations.variants(kind) if "line" not in v.name and "volume" not in v.name]
    assert held([replace(v, expectation=Expectation(merges=True)) for v in spread(variants, MANY)]) > 5


# Each thing that is handled exactly or refused by name.


def graphs(*kinds: str, count: int = FEW) -> list[Variant]:
    """Variants of ONNX graphs of these kinds."""
    return [v for kind in kinds for v in spread(onnx_mutations.variants(kind), count)]


def modules(*kinds: str, count: int = MANY) -> list[Variant]:
    """Variants of PyTorch modules of these kinds."""
    return [v for kind in kinds for v in spread(torch_mutations.variants(kind), count)]


def refusal(module: nn.Module) -> str:
    """The text with which a merge of the module is refused."""
    with pytest.raises(OnebranchError) as caught:
        onebranch.merge(module.eval(), torch.randn(1, 4, 9, 8))
    return str(caught.value)


def test_shared_convolutions_are_handled_exactly():
    held(graphs("tied weights", "convolution used twice", "network applied twice", "weight read elsewhere"))
    held(modules("shared convolution"))


def test_in_place_operations_are_handled_exactly():
    held(modules("in place", "border filled in place"))
    held(modules("scaled in place slipped in", "row zeroed slipped in", count=1))


def test_bn_in_training_mode_is_refused_by_name():
    held(graphs("BN in training mode"))
    held(modules("module in training mode", "statistics not tracked"))


def test_dropout_in_training_mode_is_refused_by_name():
    held(graphs("dropout in training mode"))
    held(modules("dropout in training mode slipped in", "alpha dropout in training mode slipped in", count=2))


@pytest.mark.parametrize("kind", ["data-dependent control flow", "data-dependent loop"])
def test_data_dependent_control_flow_is_refused_by_name(kind):
    function, _, parts = torch_mutations.NETWORKS["repvgg"]
    text = refusal(torch_mutations.Net(function, 5, torch_mutations.SLIPS[kind], **parts()))
    assert "depend" in text and "\n" not in text


def test_what_a_trace_would_freeze_is_refused():
    """Python's own counters and random numbers, and modules that ask whether they are traced."""
    held(modules("numbers that a trace freezes", "state"))


def test_dynamic_shapes_are_handled_exactly():
    held(graphs("no shapes in the file", "fixed sizes", "fixed sizes of 1", "fixed batch of 3"))
    held(graphs("divided by its size", "reshaped and back", "stale shapes in the file"))
    held(modules("size-dependent control flow slipped in", "padded to a multiple slipped in", count=1))


def test_average_pools_that_do_not_count_padding_are_left_by_name():
    held(graphs("uncounted padding", "average that does not count padding"))
    held(modules("uncounted padding slipped in", count=2))


def test_average_pools_that_round_up_are_handled_exactly():
    held(graphs("rounding up", "average that rounds up"))
    held([*modules("rounding up slipped in", count=2), *modules("strides")])


def test_even_kernels_are_handled_exactly():
    held(graphs("even kernel, padded after", "even kernel, padded before"))
    held(graphs("even kernel, padded by the runtime after", "even kernel, padded by the runtime before"))
    held(modules("even kernels"))


def test_asymmetric_padding_is_handled_exactly():
    held(graphs("asymmetric padding", "asymmetric average", "pad of one side", count=4))
    held(modules("asymmetric padding"))


def test_same_padding_is_handled_exactly():
    held(graphs("padding by the runtime", "average padded by the runtime", count=4))
    held(modules("same padding"))


def test_reflect_replicate_and_circular_padding_are_left():
    held(graphs("reflected", "replicated", "wrapped", "pad reflects", "pad replicates", "pad wraps"))
    held(modules("padding of another mode"))


def test_fp16_weights_are_handled_exactly():
    held(graphs("weight of float16", "half precision", "float16 slipped in", count=4))
    held(modules("precision"))


def test_int8_weights_are_handled_exactly():
    held(graphs("weight of int8", "weight of int8 by channel", "int8 slipped in", count=4))


def stored_apart(model: onnx.ModelProto, folder: Path) -> Path:
    """The model in a file, its tensors in another one."""
    copied, path = onnx.ModelProto(), folder / "model.onnx"
    copied.CopyFrom(model)  # saving moves the tensors out of the model that it is given
    onnx.save(copied, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


@pytest.mark.parametrize("network", ["repvgg", "ecb", "head"])
def test_external_data_is_read(network):
    variant = OnnxVariant(network, NETWORKS[network](1), Expectation(merges=True), stored_apart)
    held([variant])


@pytest.mark.parametrize("spoil", ["missing", "short", "escaping"])
def test_external_data_that_is_not_there_is_refused_by_name(tmp_path, spoil):
    path = stored_apart(NETWORKS["repvgg"](1), tmp_path)
    if spoil == "missing":
        (tmp_path / "weights.bin").unlink()
    elif spoil == "short":
        (tmp_path / "weights.bin").write_bytes(b"\0" * 5)
    else:
        path.write_bytes(path.read_bytes().replace(b"weights.bin", b"../eights.b"))
    with pytest.raises(OnebranchError):
        onebranch.merge(path)


# The judge: it must catch what is wrong.

CHANGING = [
    *(f"{kind} slipped in" for kind in onnx_mutations.ACTIVATIONS),
    *("gated by itself", "squeezed and excited", "flipped rows", "rolled rows", "rows joined and thinned"),
    *("running sum", "channels reversed", "constant picture added", "mean over the batch", "negated"),
    *("global mean added", "reflected", "replicated", "wrapped", "padded with a constant", "rows shifted"),
    *("asymmetric padding", "even kernel, padded after", "other dilation", "grouped against dense"),
    *("BN in training mode", "negative variance", "huge epsilon", "weights of zero", "uncounted padding"),
    *("residual from another place", "convolved from another place", "an operation left out", "tied weights"),
    *("weight turned in the graph", "weight normalized in the graph", "convolution as a function with ReLU"),
    *("dropout in training mode", "noise slipped in", "batch and channels mixed", "divided by its size"),
    *("inner result returned too", "inner result captured by if"),
    *(
        "padding moved",
        "pad reflects",
        "pad of one side",
        "pad fills with a constant",
        "transposed otherwise",
    ),
]
"""Kinds of mutations that change the function: the unmutated network is a wrong answer."""

REPORT = SimpleNamespace(changed=False, regions=(), unmerged=(), check=None)


@pytest.mark.parametrize("kind", CHANGING)
def test_the_judge_catches_a_merge_that_overlooks_the_mutation(kind):
    """For every variant, this wrong merge returns the unmutated network."""
    caught = []
    for number, (network, build) in enumerate(NETWORKS.items()):
        for description, model, _ in itertools.islice(onnx_mutations.MUTATIONS[kind](build(1 + number)), 4):
            variant = OnnxVariant(f"{network}: {description}", model, Expectation())
            overlooked = judge(variant, lambda model, b=build, n=number: (b(1 + n), REPORT))
            caught.append(bool(overlooked.faults) and overlooked.outcome != "broken")
    assert sum(caught) > len(caught) / 3, f"{sum(caught)} of {len(caught)}"


def biased_chain(width: int = 5) -> onnx.ModelProto:
    """1x1 with a bias, then a zero-padded 3x3."""
    s = picture(0)
    return s.model(s.conv(s.conv("x", "first", width, 1), "second", 4))


def folded(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Any]:
    """The chain folded as most repositories do it: as if the padding came first."""
    constants = Edit(model).constants()
    first, second = constants["first.weight"][:, :, 0, 0], constants["second.weight"]
    weight = np.einsum("omkl,mi->oikl", second, first)
    bias = constants["second.bias"] + second.sum((2, 3)) @ constants["first.bias"]
    edit = Edit(model)
    edit.node("second").input[:] = ["x", edit.constant("weight", weight), edit.constant("bias", bias)]
    edit.graph.node.remove(edit.node("first"))
    return edit.done(), REPORT


def test_the_judge_catches_a_naive_fold_of_a_zero_padded_biased_pair():
    verdict = judge(OnnxVariant("chain", biased_chain(), Expectation()), folded)
    assert any("differs by" in fault for fault in verdict.faults)


def test_the_judge_accepts_the_naive_fold_where_it_is_right():
    edit = Edit(biased_chain())
    edit.constant("first.bias", np.zeros(5, np.float32))
    assert judge(OnnxVariant("chain", edit.done(), Expectation()), folded).faults == ()


@dataclass(frozen=True)
class Spoiled:
    """A wrong merge: a function from a model to a wrong result."""

    merge: Callable[[onnx.ModelProto], tuple[Any, Any]]
    fault: str


def _spoiled_weight(change: Callable[[np.ndarray], None]) -> Callable[[onnx.ModelProto], tuple[Any, Any]]:
    def merge(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Any]:
        copied = onnx.ModelProto()
        copied.CopyFrom(model)
        tensor = copied.graph.initializer[0]
        weight = numpy_helper.to_array(tensor).copy()
        change(weight)
        tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
        return copied, REPORT

    return merge


def _scale_all(weight: np.ndarray) -> None:
    weight *= 1.003


def _not_a_number(weight: np.ndarray) -> None:
    weight.flat[0] = np.nan


def _refuse(text: str) -> Callable[[onnx.ModelProto], tuple[Any, Any]]:
    def merge(model: onnx.ModelProto) -> tuple[Any, Any]:
        raise OnebranchError(text)

    return merge


def _crash(model: onnx.ModelProto) -> tuple[Any, Any]:
    raise KeyError("weight")


def _with_report(**changes: Any) -> Callable[[onnx.ModelProto], tuple[Any, Any]]:
    return lambda model: (model, SimpleNamespace(**{**vars(REPORT), **changes}))


def _region(*names: str) -> tuple[Any, ...]:
    merged = SimpleNamespace(replaces=names)
    return (SimpleNamespace(operations=names, merged=(merged,)),)


SPOILED = {
    "weights off by 0.3 %": Spoiled(_spoiled_weight(_scale_all), "differs by"),
    "not a number": Spoiled(_spoiled_weight(_not_a_number), "differs by"),
    "crash": Spoiled(_crash, "KeyError"),
    "empty refusal": Spoiled(_refuse(" "), "one line"),
    "refused though harmless": Spoiled(_refuse("no"), "refused what can be merged"),
    "left though harmless": Spoiled(_with_report(), "nothing was merged"),
    "merged across": Spoiled(
        _with_report(changed=True, regions=_region("conv", "relu"), check=SimpleNamespace(sizes=(1,))),
        "in a region",
    ),
    "two became one": Spoiled(
        _with_report(changed=True, regions=_region("conv", "bn"), check=SimpleNamespace(sizes=(1,))),
        "became one",
    ),
    "unchecked": Spoiled(_with_report(changed=True, regions=_region("conv", "bn")), "without a check"),
    "not named": Spoiled(_with_report(), "is among what is left"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_the_judge_catches_what_is_wrong(name):
    strict = Expectation(outside=("relu",), apart=(("conv", "bn"),), named=("conv",), merges=True)
    variant = OnnxVariant("conv_bn", NETWORKS["conv_bn"](1), strict)
    assert any(SPOILED[name].fault in fault for fault in judge(variant, SPOILED[name].merge).faults)


def test_the_judge_catches_a_merge_that_changes_its_source():
    def merge(model: onnx.ModelProto) -> tuple[Any, Any]:
        model.graph.initializer[0].name = "renamed"
        return model, REPORT

    verdict = judge(OnnxVariant("conv_bn", NETWORKS["conv_bn"](1), Expectation()), merge)
    assert "changed its source" in str(verdict)


def test_spread_takes_variants_from_all_over():
    assert spread(iter(range(100)), 4) == [0, 25, 50, 75]
    assert spread(iter(range(3)), 4) == [0, 1, 2]
