"""Reading and writing ONNX files, atomically and checked. No other module opens or makes such a file.

External data (weights in files beside the model) is read into the model, from its own folder only.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # has no types of its own
from onnx import TensorProto, numpy_helper

from onebranch.atomic_files import atomic_path, write_atomically
from onebranch.errors import OnebranchError

OLDEST_OPSET = 9
"""Operators of older opsets differ in meaning: broadcasting, batch normalization, resizing."""

MAX_FILE_BYTES = 2**31 - 2**24
"""Largest size of the weights in one file: protobuf's limit of 2 GiB, less 16 MiB for everything else."""

WEIGHTS_ARE_NO_INPUTS = 4
"""ONNX's IR version from which a stored value need not be listed among the inputs."""

MIN_EXTERNAL_BYTES = 1024
"""Size from which a tensor goes to the external data file."""

DATA_CHUNK_BYTES = 1 << 24
"""The number of bytes that are written at a time."""

PACKED_BITS = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
"""Bits per element of the types that share bytes."""


def read(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """The model in an ONNX file, with its external data, after ONNX's own check.

    Raises OnebranchError, one line that names the file, if it is absent, empty, damaged, not ONNX, of an
    opset before 9 or newer than the installed `onnx` supports, or if external data is missing, too short or
    outside of the file's folder.
    """
    file = Path(path)
    model = _parse(file)
    try:
        _check_versions(model)
        for tensor in tensors_of(model):
            if tensor.data_location == TensorProto.EXTERNAL:
                _load(tensor, file.parent)
            _check_size(tensor)
        _check(model)
    except OnebranchError as error:
        raise OnebranchError(f"{file}: {error}") from None
    return model


def _parse(file: Path) -> onnx.ModelProto:
    """The file parsed, without any check but that it has a graph."""
    model = onnx.ModelProto()
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise OnebranchError(f"{file}: there is no such file") from None
    except OSError as error:
        why = "it is a folder" if file.is_dir() else error.strerror or error
        raise OnebranchError(f"cannot read {file}: {why}") from None
    if not content:
        raise OnebranchError(f"{file} is empty, no ONNX file")
    try:
        model.ParseFromString(content)
    except DecodeError:
        raise OnebranchError(
            f"{file} is not a whole ONNX file: it is damaged, or of another format"
        ) from None
    if not model.ir_version or not model.graph.output:
        raise OnebranchError(f"{file} is not an ONNX file: it has no graph with an output")
    return model


def _check_versions(model: onnx.ModelProto) -> None:
    newest = onnx.defs.onnx_opset_version()
    if model.ir_version > onnx.IR_VERSION:
        raise OnebranchError(
            f"its layout is ONNX IR version {model.ir_version}, the installed onnx reads up to"
            f" {onnx.IR_VERSION}; install a newer onnx, or export it with an older one"
        )
    opset = opset_of(model)
    if opset < OLDEST_OPSET:
        raise OnebranchError(
            f"its operations are those of opset {opset}, this program reads {OLDEST_OPSET} to {newest};"
            " export it again, or convert it with onnx.version_converter"
        )
    if opset > newest:
        raise OnebranchError(
            f"its operations are those of opset {opset}, the installed onnx knows up to {newest};"
            " install a newer onnx, or export it with an older opset"
        )


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that a model uses; 1 if it states none."""
    versions = [opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")]
    return max(versions, default=1)


def tensors_of(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Every stored array: weights, and constants in nodes, subgraphs and functions."""
    yield from _of_graph(model.graph)
    for function in model.functions:
        yield from _of_nodes(function.node)


def _of_graph(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[TensorProto]:
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        yield from ([attribute.t] if attribute.HasField("t") else []) + list(attribute.tensors)
        for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
            yield from _of_graph(graph)


def _load(tensor: TensorProto, folder: Path) -> None:
    """Read a tensor's external data into the tensor."""
    facts = {entry.key: entry.value for entry in tensor.external_data}
    data_file = _inside(folder, facts.get("location", ""), tensor.name)
    try:
        offset, length = int(facts.get("offset", 0)), int(facts.get("length", _bytes_of(tensor)))
    except ValueError:
        raise OnebranchError(
            f"the position of the tensor '{tensor.name}' in '{data_file.name}' is not a number"
        ) from None
    try:
        if offset < 0 or length != _bytes_of(tensor) or offset + length > data_file.stat().st_size:
            raise OnebranchError(
                f"the data of the tensor '{tensor.name}' does not lie in '{data_file.name}' as the model"
                " says; the two files do not belong together, or one is damaged"
            )
        with data_file.open("rb") as content:
            content.seek(offset)
            tensor.raw_data = content.read(length)
    except OSError as error:
        raise OnebranchError(
            f"cannot read '{data_file}', which holds the tensor '{tensor.name}': {error.strerror}"
        ) from None
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]


def _inside(folder: Path, location: str, tensor: str) -> Path:
    """The path of an external data file. Raises OnebranchError unless it is inside the folder."""
    path = folder / location
    if not location or not path.resolve().is_relative_to(folder.resolve()):
        raise OnebranchError(
            f"the tensor '{tensor}' lies in '{location}', outside of the model's folder;"
            " external data is read from beside the model only"
        )
    if not path.is_file():
        raise OnebranchError(
            f"the tensor '{tensor}' lies in '{location}', which is missing; put it beside the model"
        )
    return path


def _bytes_of(tensor: TensorProto) -> int:
    """Bytes of a tensor's elements, packed as ONNX packs them."""
    if any(length < 0 for length in tensor.dims):
        raise OnebranchError(f"the tensor '{tensor.name}' has a negative size")
    try:
        kind = TensorProto.DataType.Name(tensor.data_type)
        size = 8 * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, ValueError, TypeError):
        raise OnebranchError(
            f"the tensor '{tensor.name}' is of the unknown type {tensor.data_type}"
        ) from None
    return int(-(-prod(tensor.dims) * PACKED_BITS.get(kind, size) // 8))


def _check_size(tensor: TensorProto) -> None:
    """Raise OnebranchError if a tensor has more or fewer elements than its shape says."""
    raw = tensor.HasField("raw_data")
    if not (len(tensor.raw_data) == _bytes_of(tensor) if raw else _is_readable(tensor)):
        raise OnebranchError(
            f"the tensor '{tensor.name}' does not hold the numbers that its shape"
            f" {tuple(tensor.dims)} asks for; the file is damaged"
        )


def _is_readable(tensor: TensorProto) -> bool:
    if (
        prod(tensor.dims) > sum(len(getattr(tensor, name)) for name in _FIELDS) * 8
    ):  # 8: bits may share a number
        return False
    try:
        return numpy_helper.to_array(tensor).size >= 0
    except (ValueError, TypeError, KeyError):
        return False


_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
"""The fields that hold the elements of a tensor without raw bytes."""


def runnable_content(model: onnx.ModelProto) -> bytes | None:
    """The model's content in the form that runtimes need; None if its file can be used as it is.

    Dimensions of 0 and -1 are replaced by open ones. Weights are removed from the inputs, because runtimes
    do not optimize weights that a caller may replace. A model too large for one message is unchanged.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    has_listed_weights = any(value.name in weights for value in model.graph.input)
    if not (has_listed_weights or _closed_dimensions(model)) or _weight_bytes(model) > MAX_FILE_BYTES:
        return None
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.ir_version = max(copy.ir_version, WEIGHTS_ARE_NO_INPUTS)
    for index in reversed(range(len(copy.graph.input))):
        if copy.graph.input[index].name in weights:
            del copy.graph.input[index]
    open_dimensions(copy)
    return bytes(copy.SerializeToString())


def open_dimensions(model: onnx.ModelProto) -> None:
    """Replace dimensions of 0 and -1 among the inputs and outputs, which mean open sizes, by open ones."""
    for dimension in _closed_dimensions(model):
        dimension.ClearField("dim_value")


def _closed_dimensions(model: onnx.ModelProto) -> list[Any]:
    """The dimensions of inputs and outputs that are 0 or negative."""
    values = (*model.graph.input, *model.graph.output)
    dimensions = (dimension for value in values for dimension in value.type.tensor_type.shape.dim)
    return [d for d in dimensions if d.HasField("dim_value") and d.dim_value < 1]


def check_rewritten(model: onnx.ModelProto, original: onnx.ModelProto) -> None:
    """Raise OnebranchError if a model, but not its original, fails ONNX's full check with shape inference.

    A model that is too large for the check passes.
    """
    violation = _violation(model, full_check=True)
    if violation and not _violation(original, full_check=True):
        raise OnebranchError(f"the result breaks ONNX's rules, and nothing was written: {violation}")


def _check(model: onnx.ModelProto) -> None:
    violation = _violation(model)
    if violation:
        raise OnebranchError(f"it breaks ONNX's rules: {violation}")


def _violation(model: onnx.ModelProto, full_check: bool = False) -> str:
    """What ONNX's checker complains about; empty if it does not, or if the model is too large for it."""
    if _weight_bytes(model) > MAX_FILE_BYTES:
        return ""
    try:
        onnx.checker.check_model(_with_output_shapes(model), full_check=full_check)
    except (  # ValueError: names that are not text; InferenceError: full check only
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        RuntimeError,
        ValueError,
    ) as error:
        return " ".join(str(error).partition("==> Context")[0].split())
    return ""


def _with_output_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a shape for every output, which the check requires and runtimes do not."""
    if all(value.type.tensor_type.HasField("shape") for value in model.graph.output):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in copy.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()
    return copy


def _weight_bytes(model: onnx.ModelProto) -> int:
    return sum(_bytes_of(tensor) for tensor in tensors_of(model))


def write(model: onnx.ModelProto, path: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Write the model atomically; the same model gives the same bytes.

    Weights of 2 GB or more are stored in a second file beside it, whose name contains a hash of its content,
    so that a model never reads another model's data. Raises OnebranchError if the path exists (unless
    `overwrite`) or cannot be written.
    """
    target = Path(path)
    if _weight_bytes(model) > MAX_FILE_BYTES:
        if not overwrite and os.path.lexists(target):
            raise OnebranchError(
                f"cannot write '{target}': it exists; choose another name or allow overwriting"
            )
        model = _with_external_data(model, target)
    write_atomically(target, model.SerializeToString(deterministic=True), overwrite=overwrite)


def _with_external_data(model: onnx.ModelProto, target: Path) -> onnx.ModelProto:
    """The model with its large weights in a data file beside `target`, which is written here."""
    large = [tensor for tensor in model.graph.initializer if _is_external(tensor)]
    name = f"{target.name}.{_digest(large)[:16]}.data"
    _write_data(target.with_name(name), large)
    result: onnx.ModelProto = _without(model, "graph")
    result.graph.CopyFrom(_without(model.graph, "initializer"))
    offset = 0
    for tensor in model.graph.initializer:
        if not _is_external(tensor):
            result.graph.initializer.append(tensor)
            continue
        result.graph.initializer.append(_reference(tensor, name, offset))
        offset += _bytes_of(tensor)
    return result


def _is_external(tensor: TensorProto) -> bool:
    return tensor.data_type != TensorProto.STRING and _bytes_of(tensor) >= MIN_EXTERNAL_BYTES


def _reference(tensor: TensorProto, location: str, offset: int) -> TensorProto:
    """The tensor with a reference to the file that holds its elements."""
    facts = {"location": location, "offset": str(offset), "length": str(_bytes_of(tensor))}
    entries = [onnx.StringStringEntryProto(key=key, value=value) for key, value in facts.items()]
    return TensorProto(
        name=tensor.name,
        data_type=tensor.data_type,
        dims=tensor.dims,
        data_location=TensorProto.EXTERNAL,
        external_data=entries,
    )


def _without(message: Any, left_out: str) -> Any:
    """A copy of a protobuf message without one field: copying weights would double the memory."""
    copy = type(message)()
    for field, value in message.ListFields():
        if field.name != left_out:
            copy.MergeFrom(type(message)(**{field.name: value}))
    return copy


def _chunks(tensors: Iterable[TensorProto]) -> Iterator[bytes]:
    for tensor in tensors:
        content = tensor.raw_data or numpy_helper.to_array(tensor).tobytes()
        for begin in range(0, len(content), DATA_CHUNK_BYTES):
            yield content[begin : begin + DATA_CHUNK_BYTES]


def _digest(tensors: Iterable[TensorProto]) -> str:
    digest = hashlib.sha256()
    for chunk in _chunks(tensors):
        digest.update(chunk)
    return digest.hexdigest()


def _write_data(path: Path, tensors: Iterable[TensorProto]) -> None:
    """Write the bytes of all tensors one after the other, atomically."""
    with atomic_path(path, overwrite=True) as temporary, temporary.open("xb") as file:
        for chunk in _chunks(tensors):
            file.write(chunk)
