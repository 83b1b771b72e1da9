"""The short description of a model that `onebranch info` prints: one line per topic."""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onebranch.model.file import Model
    from onebranch.spec.network import NetworkSpec, Task


def summary_lines(model: "Model") -> Iterator[tuple[str, str]]:
    """(topic, text) for purpose, network, size, quality, int8 loss, merge and training, as far as known."""
    from onebranch.model.catalogue import CATALOGUE

    if model.name in CATALOGUE:
        yield "Purpose", CATALOGUE[model.name].about
    yield "Task", task_words(model.spec)
    yield "Network", _network_words(model.spec)
    yield "Size", _size_words(model)
    for name, scores in model.scores.items():
        yield "Quality", f"{name}: {_score_words(scores, model.spec.task)}"
    if loss := (model.quantization or {}).get("loss"):
        yield "Int8", f"loses {loss['loss_db']:.3f} dB of PSNR on {loss['data'].partition(':')[0]}"
    yield "Merge", _merge_words(model)
    if model.recipe:
        yield "Training", _training_words(model.recipe)


def task_words(spec: "NetworkSpec") -> str:
    """What the network does, and on which colours.

    >>> from onebranch.model.catalogue import load
    >>> task_words(load("photo-x2").spec)
    'upscale x2 on luma (BT.601 studio range / 255)'
    """
    colour = "luma (BT.601 studio range / 255)" if spec.colour == "y" else "RGB"
    size = {"upscale": f" x{spec.scale}", "downscale": f" 1/{spec.scale} by {spec.downsampling}"}
    return f"{spec.task}{size.get(spec.task, '')} on {colour}"


def _network_words(spec: "NetworkSpec") -> str:
    """The blocks between head and tail, equal ones counted: '4 blocks of 16 channels (3x3, prelu)'."""
    from onebranch.errors import counted_noun

    kinds = Counter((block.width, " + ".join(block.branches), block.activation) for block in spec.blocks)
    blocks = [
        f"{counted_noun(count, 'block')} of {width} channels ({branches}, {activation})"
        for (width, branches, activation), count in kinds.items()
    ]
    return f"head, {', '.join(blocks) or 'no blocks'}, tail"


def _size_words(model: "Model") -> str:
    from onebranch.graph.analysis.halo import halo
    from onebranch.lowering.floats import lower
    from onebranch.spec.network import macs, parameters

    padding = halo(lower(model.spec, model.weights))
    widest = max(padding.top, padding.bottom, padding.left, padding.right)
    return (
        f"{parameters(model.spec):,} parameters, {macs(model.spec):,} multiply-adds per pixel of the input,"
        f" halo of {widest} pixels"
    )


def _score_words(scores: dict[str, Any], task: "Task") -> str:
    """The PSNR of one evaluation, and the gain over its baseline: '32.29 dB, +1.43 dB over bicubic'."""
    from onebranch.model.scores import psnr_key

    key = psnr_key(task, scores)
    if not isinstance(scores.get(key), int | float):
        return "see --all"
    baseline = scores.get("baseline") or {}
    gain = f", {scores[key] - baseline[key]:+.2f} dB over {baseline['method']}" if key in baseline else ""
    return f"{scores[key]:.2f} dB {'PSNR of Y' if key == 'psnr_y' else 'PSNR'}{gain}"


def _merge_words(model: "Model") -> str:
    """The state of the merge and of its proof."""
    from onebranch.blocks.plan import MergePlan, groups_by_block
    from onebranch.verification import record_of

    if model.merge:
        proofs = [group.proof for block in record_of(model).blocks for group in block.groups]
        if not proofs:
            return "a merge that changed nothing"
        error = max(proof.basis.error for proof in proofs)
        return f"merged and proven; largest difference {error:.0e} of the largest value (at most 1e-12)"
    if any(groups_by_block(MergePlan(), model.spec).values()):
        return "not merged yet (onebranch merge)"
    return "nothing left to merge; the file has no record of a merge"


def _training_words(recipe: dict[str, Any]) -> str:
    """Steps, pictures and validation PSNR of the training, as far as they are recorded."""
    words = [f"{recipe[key]:,} {key}" for key in ("steps", "pictures") if isinstance(recipe.get(key), int)]
    training = recipe.get("config", {}).get("training", {})
    if training.get("init_from"):
        words.append(f"from {training['init_from']}")
    if isinstance(recipe.get("validation_psnr"), float):
        words.append(f"validation PSNR {recipe['validation_psnr']:.2f} dB")
    return ", ".join(words) or "see --all"
