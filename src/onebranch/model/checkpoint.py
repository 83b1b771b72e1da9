"""A training checkpoint read as a model: its averaged weights, without PyTorch."""

import json
from typing import Any

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.spec.network import NetworkSpec, convert
from onebranch.spec.renamed_keys import translate_config
from onebranch.spec.shorthand import NetworkShorthand, expand

METADATA_KEY = "facts"
"""The metadata key under which a checkpoint stores its progress, as JSON."""

RESTORER_PREFIX = "restorer."
"""Prefix of the tensors of an enlarging network that is trained together with a reducing one."""

BN_STATISTICS = (".running_mean", ".running_var")


def is_checkpoint(metadata: dict[str, str]) -> bool:
    """True if a safetensors file with this metadata is a training checkpoint."""
    return METADATA_KEY in metadata and "onebranch" not in metadata


def averaged_model(
    metadata: dict[str, str], tensors: dict[str, np.ndarray], name: str
) -> tuple[NetworkSpec, dict[str, np.ndarray], str, dict[str, Any]]:
    """Spec, averaged weights (float32), name and recipe of a checkpoint: the arguments of `Model`.

    While BN is not frozen, the BN statistics are those of the trained network, because training updates those
    of the averaged network only at validations. Raises OnebranchError if the checkpoint is damaged.
    """
    try:
        progress = json.loads(metadata[METADATA_KEY])
        config = translate_config(progress["config"])
        shorthand: NetworkShorthand = convert(config["network"], NetworkShorthand, "the checkpoint's network")
        recipe = {
            "config": config,
            "steps": progress["step"],
            "batch_norm_frozen": progress["frozen"],
            "validation_psnr": progress["psnr"],
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OnebranchError(f"the checkpoint's metadata is damaged: {error}") from None
    weights = {}
    for stored, tensor in tensors.items():
        source, _, key = stored.partition(".")
        wanted = "network" if key.endswith(BN_STATISTICS) and not progress["frozen"] else "average"
        left_out = key.endswith("num_batches_tracked") or key.startswith(RESTORER_PREFIX)
        if source == wanted and not left_out:
            weights[key] = tensor.astype(np.float32)
    return expand(shorthand), weights, name, recipe
