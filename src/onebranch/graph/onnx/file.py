"""ONNX files: read whole and checked, written whole or not at all. Nothing else opens or makes such a file.

Weights that lie in files beside the model (external data) are read into it, from its own folder only.
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
"""Before it, batch normalization and resizing meant other things."""

LARGEST = 2**31 - 2**24
"""Bytes of weights in one file: protobuf's limit, less what everything else may take."""

SMALL = 1024
"""Bytes below which a tensor stays in the model's own file."""

CHUNK = 1 << 24
"""Bytes that are written at once."""

PACKED = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
"""Bits of the element types that share bytes."""


def read(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """The model in an ONNX file, its external data loaded, checked against ONNX's own rules.

    Raises OnebranchError, one line that names the file, where it is absent, empty, damaged, no ONNX, of an
    opset before 9 or newer than the installed `onnx` knows, or where external data is missing, too short or
    outside of the file's folder.
    """
    file = Path(path)
    model = _parsed(file)
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


def _parsed(file: Path) -> onnx.ModelProto:
    """The file as a message, nothing of it checked but that it has a graph."""
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
        raise OnebranchError(f"{file} is not an ONNX file: it holds no graph with an output")
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
    """The version of ONNX's own operations that a model uses; 1 where it says none."""
    versions = [opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")]
    return max(versions, default=1)


def tensors_of(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Every stored array: weights, constants in operations, those of inner graphs and functions."""
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
    """Read a tensor's external data into it."""
    facts = {entry.key: entry.value for entry in tensor.external_data}
    place = _inside(folder, facts.get("location", ""), tensor.name)
    try:
        offset, length = int(facts.get("offset", 0)), int(facts.get("length", _bytes_of(tensor)))
    except ValueError:
        raise OnebranchError(
            f"the place of the tensor '{tensor.name}' in '{place.name}' is no number"
        ) from None
    try:
        if offset < 0 or length != _bytes_of(tensor) or offset + length > place.stat().st_size:
            raise OnebranchError(
                f"the data of the tensor '{tensor.name}' does not lie in '{place.name}' as the model says;"
                " the two files do not belong together, or one is damaged"
            )
        with place.open("rb") as content:
            content.seek(offset)
            tensor.raw_data = content.read(length)
    except OSError as error:
        raise OnebranchError(
            f"cannot read '{place}', which holds the tensor '{tensor.name}': {error.strerror}"
        ) from None
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]


def _inside(folder: Path, location: str, tensor: str) -> Path:
    """The file of that name, which must be a file in the folder, links followed."""
    place = folder / location
    if not location or not place.resolve().is_relative_to(folder.resolve()):
        raise OnebranchError(
            f"the tensor '{tensor}' lies in '{location}', outside of the model's folder;"
            " external data is read from beside the model only"
        )
    if not place.is_file():
        raise OnebranchError(
            f"the tensor '{tensor}' lies in '{location}', which is missing; put it beside the model"
        )
    return place


def _bytes_of(tensor: TensorProto) -> int:
    """Bytes of its elements, packed as ONNX packs them."""
    if any(length < 0 for length in tensor.dims):
        raise OnebranchError(f"the tensor '{tensor.name}' has a negative size")
    try:
        kind = TensorProto.DataType.Name(tensor.data_type)
        size = 8 * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, ValueError, TypeError):
        raise OnebranchError(
            f"the tensor '{tensor.name}' is of the unknown type {tensor.data_type}"
        ) from None
    return int(-(-prod(tensor.dims) * PACKED.get(kind, size) // 8))


def _check_size(tensor: TensorProto) -> None:
    """Raise OnebranchError where a tensor has more or fewer numbers than its shape says."""
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
"""Where a tensor that has no raw bytes keeps its numbers."""


def _check(model: onnx.ModelProto) -> None:
    """ONNX's own check, where the model is small enough for it."""
    if _weight_bytes(model) > LARGEST:
        return
    model = _with_shapes(model)
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, RuntimeError, ValueError) as error:  # ValueError: names are no text
        why = " ".join(str(error).partition("==> Context")[0].split())
        raise OnebranchError(f"it breaks ONNX's rules: {why}") from None


def _with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model as the check wants it: with a shape for every output, though runtimes do not ask for one."""
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
    """Write the model, whole or not at all; the same model gives the same bytes.

    Weights of 2 GB or more go into a second file beside it, named after what it holds, so that a model never
    meets another's data. Raises OnebranchError where the path exists (unless `overwrite`) or cannot be
    written.
    """
    place = Path(path)
    if _weight_bytes(model) > LARGEST:
        if not overwrite and os.path.lexists(place):
            raise OnebranchError(
                f"cannot write '{place}': it exists; choose another name or allow overwriting"
            )
        model = _with_data_beside(model, place)
    write_atomically(place, model.SerializeToString(deterministic=True), overwrite=overwrite)


def _with_data_beside(model: onnx.ModelProto, place: Path) -> onnx.ModelProto:
    """The model with its large weights in a file beside `place`, which is written here."""
    large = [tensor for tensor in model.graph.initializer if _goes_beside(tensor)]
    name = f"{place.name}.{_digest(large)[:16]}.data"
    _write_data(place.with_name(name), large)
    result: onnx.ModelProto = _without(model, "graph")
    result.graph.CopyFrom(_without(model.graph, "initializer"))
    offset = 0
    for tensor in model.graph.initializer:
        if not _goes_beside(tensor):
            result.graph.initializer.append(tensor)
            continue
        result.graph.initializer.append(_reference(tensor, name, offset))
        offset += _bytes_of(tensor)
    return result


def _goes_beside(tensor: TensorProto) -> bool:
    return tensor.data_type != TensorProto.STRING and _bytes_of(tensor) >= SMALL


def _reference(tensor: TensorProto, location: str, offset: int) -> TensorProto:
    """The tensor without its numbers, which lie in another file."""
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
    """A copy of a protobuf message without one field; with the weights it would double what is in memory."""
    copy = type(message)()
    for field, value in message.ListFields():
        if field.name != left_out:
            copy.MergeFrom(type(message)(**{field.name: value}))
    return copy


def _chunks(tensors: Iterable[TensorProto]) -> Iterator[bytes]:
    for tensor in tensors:
        content = tensor.raw_data or numpy_helper.to_array(tensor).tobytes()
        for begin in range(0, len(content), CHUNK):
            yield content[begin : begin + CHUNK]


def _digest(tensors: Iterable[TensorProto]) -> str:
    digest = hashlib.sha256()
    for chunk in _chunks(tensors):
        digest.update(chunk)
    return digest.hexdigest()


def _write_data(place: Path, tensors: Iterable[TensorProto]) -> None:
    """The bytes of all tensors, one after the other, in a file that appears when it is whole."""
    with atomic_path(place, overwrite=True) as temporary, temporary.open("xb") as file:
        for chunk in _chunks(tensors):
            file.write(chunk)
