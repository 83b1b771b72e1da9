"""The model file: a safetensors file whose metadata holds the spec, recipe, merge record and scores.

It contains no code. Everything that is read is checked: a `Model` always holds exactly the tensors of its
spec, in float32 and finite.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from onebranch import strict_json
from onebranch.algebra.definition import tensor_names
from onebranch.algebra.integer import integer_layers
from onebranch.atomic_files import write_atomically
from onebranch.errors import OnebranchError, nearest
from onebranch.model.checkpoint import averaged_model, is_checkpoint
from onebranch.spec.branch import Branch, Convolution
from onebranch.spec.network import BlockSpec, Colour, NetworkSpec, decode_json, from_json, to_json
from onebranch.spec.quantization import quantization_of
from onebranch.spec.renamed_keys import translate_config

FILE_VERSION = "1"
"""Version of the file format, stored under the metadata key `onebranch`."""

METADATA_KEYS = ("onebranch", "spec", "recipe", "merge", "scores", "quantization")
"""Every key of the metadata."""

NamedTensors = Mapping[str, np.ndarray]
"""Float32 arrays by tensor name (see `expected_tensors`)."""


@dataclass(frozen=True)
class Model:
    """A network: its spec, its weights and its metadata.

    weights: finite float32 arrays, exactly the tensors of `expected_tensors(spec)`; they become read-only.
    recipe: a summary of the training recipe. merge: the merge plan and the proof. scores: measured scores.
    quantization: the quantization record (`spec.quantization.Quantization`). These four hold JSON values.

    Raises OnebranchError that names the tensor which is missing, unknown or invalid, and for a quantization
    record that does not fit the spec or belongs to other weights.

    >>> from onebranch.model.catalogue import load
    >>> model = load("photo-x2")
    >>> model.spec.scale, model.colour, model.weights["head.branches.0.0.weight"].shape
    (2, 'y', (16, 1, 3, 3))
    """

    spec: NetworkSpec
    weights: NamedTensors
    name: str = ""
    recipe: dict[str, Any] | None = None
    merge: dict[str, Any] | None = None
    scores: dict[str, Any] = field(default_factory=dict)
    quantization: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Check the tensors and make them read-only; check the record of quantization against them."""
        check_tensors(self.spec, self.weights)
        frozen = {name: _read_only(self.weights[name]) for name in expected_tensors(self.spec)}
        object.__setattr__(self, "weights", MappingProxyType(frozen))
        if self.quantization is not None:
            _check_quantization(self.quantization, self)

    def __reduce__(self) -> tuple[type["Model"], tuple[Any, ...]]:
        """How the model is copied and pickled: made anew, because the read-only mapping cannot be pickled."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return Model, tuple((values | {"weights": dict(self.weights)}).values())

    @property
    def colour(self) -> Colour:
        """The colour mode of the network's input: "y" (luma) or "rgb"."""
        return self.spec.colour


def expected_tensors(spec: NetworkSpec) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a network, in order.

    >>> from onebranch.spec.shorthand import NetworkShorthand, expand
    >>> spec = expand(NetworkShorthand(task="denoise", width=8, depth=0, branches=("3x3",)))
    >>> expected_tensors(spec)["head.branches.0.0.weight"], list(expected_tensors(spec))[-1]
    ((8, 1, 3, 3), 'tail.branches.0.0.bias')
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for name, block, inputs in spec.walk():
        shapes |= {f"{name}.{key}": shape for key, shape in _block_tensors(block, inputs).items()}
    if shape := spec.resampling_shape():
        shapes |= {"resample.weight": shape, "resample.bias": shape[:1]}
    return shapes


def _block_tensors(block: BlockSpec, inputs: int) -> dict[str, tuple[int, ...]]:
    shapes = {
        f"branches.{n}.{key}": shape
        for n, branch in enumerate(block.parsed)
        for key, shape in _branch_tensors(branch, inputs, block.width).items()
    }
    return shapes | ({"activation.weight": (block.width,)} if block.activation == "prelu" else {})


def _branch_tensors(branch: Branch, inputs: int, width: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    current = inputs
    for index, (step, outputs) in enumerate(zip(branch.steps, branch.channels(inputs, width), strict=True)):
        for key in tensor_names(step):
            shapes[f"{index}.{key}"] = (outputs,)
        if isinstance(step, Convolution):
            shapes[f"{index}.weight"] = (outputs, current // (step.groups or current), *step.kernel)
        current = outputs
    return shapes


def check_tensors(spec: NetworkSpec, weights: NamedTensors) -> None:
    """Raise OnebranchError, naming the tensor, unless `weights` are exactly the valid tensors of the spec."""
    shapes = expected_tensors(spec)
    for name in shapes:
        if name not in weights:
            raise OnebranchError(f"tensor '{name}' is missing; the spec has {len(shapes)} tensors")
    for name, value in weights.items():
        if name not in shapes:
            raise OnebranchError(f"tensor '{name}' is not part of the spec; {nearest(name, shapes)}")
        _check_tensor(name, value, shapes[name])


def _check_tensor(name: str, value: np.ndarray, shape: tuple[int, ...]) -> None:
    if value.shape != shape:
        raise OnebranchError(f"tensor '{name}' has shape {value.shape} where the spec says {shape}")
    if value.dtype != np.float32:
        raise OnebranchError(f"tensor '{name}' holds {value.dtype} values; they must be float32")
    if not np.isfinite(value).all():
        raise OnebranchError(f"tensor '{name}' holds NaN or infinite values")
    if name.endswith(".running_var") and (value < 0).any():
        raise OnebranchError(f"tensor '{name}' holds negative variances; the statistics are damaged")


def _check_quantization(record: dict[str, Any], model: Model) -> None:
    expected = quantization_of(record, model.spec).weights
    if expected is not None and expected != fingerprint(model):
        raise OnebranchError(
            "the quantization record belongs to other weights; quantize the model again or remove the record"
        )
    integer_layers(model.spec, model.weights, record)


def _read_only(value: np.ndarray) -> np.ndarray:
    if value.flags.writeable or not value.flags.c_contiguous:
        value = value.copy()
        value.flags.writeable = False
    return value


def fingerprint(model: Model) -> str:
    """SHA-256 (hex) over names, shapes and bytes of the weights, sorted by name; the same everywhere."""
    import hashlib  # imported late: it loads OpenSSL, which enhancing does not need

    digest = hashlib.sha256()
    for name, tensor in sorted(model.weights.items()):
        value = np.ascontiguousarray(tensor, dtype="<f4")
        digest.update(f"{name} {value.shape}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def read(path: str | os.PathLike[str]) -> Model:
    """The model in a file, named after the file's stem; of a training checkpoint, the averaged weights.

    Raises OnebranchError that names the file if it does not exist, is truncated or corrupt, was not written
    by onebranch or by another version of it, or if its tensors are not exactly those of its spec.
    """
    file = Path(path)
    metadata, weights = _parsed(file)
    try:
        return _model(metadata, weights, file.stem)
    except OnebranchError as error:
        raise OnebranchError(f"{file}: {error}") from None


def _parsed(file: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Metadata and arrays of a safetensors file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as content:
            names = content.keys()
            return content.metadata() or {}, {name: content.get_tensor(name) for name in names}
    except FileNotFoundError:
        raise OnebranchError(f"{file}: there is no such file") from None
    except OSError as error:
        reason = "it is a folder" if file.is_dir() else error.strerror or error
        raise OnebranchError(f"cannot read {file}: {reason}") from None
    except (SafetensorError, TypeError, AttributeError, ValueError, OverflowError):
        raise OnebranchError(
            f"{file} is neither a complete safetensors file nor an ONNX file (*.onnx) nor PyTorch"
            " weights (*.pth)"
        ) from None


def _model(metadata: dict[str, str], weights: dict[str, np.ndarray], name: str) -> Model:
    if is_checkpoint(metadata):
        return Model(*averaged_model(metadata, weights, name))
    _check_metadata(metadata)
    keys = ("recipe", "merge", "scores", "quantization")
    recipe, merge, scores, quantization = (_json_object(metadata, key) for key in keys)
    if recipe and isinstance(recipe.get("config"), dict):
        recipe = {**recipe, "config": translate_config(recipe["config"])}
    return Model(from_json(metadata["spec"]), weights, name, recipe, merge, scores or {}, quantization)


def _check_metadata(metadata: dict[str, str]) -> None:
    if "onebranch" not in metadata:
        raise OnebranchError("it is a safetensors file, but not a model of onebranch")
    if metadata["onebranch"] != FILE_VERSION:
        raise OnebranchError(
            f"the file format has version {metadata['onebranch']!r}, this onebranch reads '{FILE_VERSION}';"
            " use the version of onebranch that wrote it, or a newer one"
        )
    for key in metadata:
        if key not in METADATA_KEYS:
            raise OnebranchError(f"unknown metadata key '{key}'; {nearest(key, METADATA_KEYS)}")
    if "spec" not in metadata:
        raise OnebranchError("the metadata key 'spec' is missing")


def _json_object(metadata: dict[str, str], key: str) -> dict[str, Any] | None:
    if key not in metadata:
        return None
    value = decode_json(metadata[key], f"the metadata '{key}'")
    if not isinstance(value, dict):
        raise OnebranchError(f"the metadata '{key}' must be a JSON object, not {type(value).__name__}")
    return value


def check_is_model(model: object) -> None:
    """Raise OnebranchError, which says how to save it, for a merged PyTorch module or ONNX model."""
    if not isinstance(model, Model):
        raise OnebranchError(
            f"this takes a Model of onebranch, not a {type(model).__name__}: keep a PyTorch module with"
            " torch.save(module, path) or onebranch.export(module, path, example_inputs=inputs), and an ONNX"
            " model with onnx.save(model, path)"
        )


def write(model: Model, path: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Write the model to a file atomically: the complete file appears, or nothing.

    The same model always gives the same bytes. Raises OnebranchError if the path exists (unless `overwrite`
    is true) or cannot be written.

    >>> import tempfile
    >>> from onebranch.model.catalogue import load
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(load("photo-x2"), Path(folder) / "copy.safetensors")
    ...     read(Path(folder) / "copy.safetensors").name
    'copy'
    """
    check_is_model(model)
    write_atomically(Path(path), to_bytes(model), overwrite=overwrite)


def to_bytes(model: Model) -> bytes:
    """The content of the model file: safetensors with tensors and metadata in a fixed order."""
    header: dict[str, Any] = {"__metadata__": _metadata(model)}
    offset = 0
    for name, value in model.weights.items():
        header[name] = {"dtype": "F32", "shape": value.shape, "data_offsets": [offset, offset + value.nbytes]}
        offset += value.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    # safetensors aligns the data to 8 bytes by spaces after the header.
    text += b" " * (-len(text) % 8)
    data = (value.astype("<f4", copy=False).tobytes() for value in model.weights.values())
    return len(text).to_bytes(8, "little") + text + b"".join(data)


def _metadata(model: Model) -> dict[str, str]:
    entries = {
        "recipe": model.recipe,
        "merge": model.merge,
        "scores": model.scores or None,
        "quantization": model.quantization,
    }
    written = {
        key: strict_json.dumps(value, sort_keys=True) for key, value in entries.items() if value is not None
    }
    return {"onebranch": FILE_VERSION, "spec": to_json(model.spec), **written}
