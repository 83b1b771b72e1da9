"""Which files hold a network of another program, by their suffix and, for safetensors, by their header."""

import json
import os
from pathlib import Path

from onebranch.extras import require
from onebranch.model.checkpoint import is_checkpoint

PYTORCH_SUFFIXES = (".pth", ".pt", ".ckpt")
"""Suffixes of files that torch.save writes."""

MAX_SAFETENSORS_HEADER_BYTES = 100_000_000
"""The largest header that the safetensors format allows."""


def is_onnx_file(name: str | os.PathLike[str]) -> bool:
    """True if the name is that of an ONNX file.

    >>> is_onnx_file("x.ONNX"), is_onnx_file("photo-x2")
    (True, False)
    """
    return Path(name).suffix.lower() == ".onnx"


def is_pytorch_file(name: str | os.PathLike[str]) -> bool:
    """True for a file of PyTorch weights by its suffix, and for safetensors that onebranch did not write.

    A safetensors file whose header cannot be read is not one, because it may be a damaged file of onebranch.

    >>> is_pytorch_file("4x_Network.pth"), is_pytorch_file("photo-x2")
    (True, False)
    """
    path = Path(name)
    if path.suffix.lower() == ".safetensors":
        return _is_foreign_safetensors(path)
    return path.suffix.lower() in PYTORCH_SUFFIXES


def is_third_party_file(name: str | os.PathLike[str]) -> bool:
    """True for an ONNX file and for a file of PyTorch weights."""
    return is_onnx_file(name) or is_pytorch_file(name)


def require_reader(name: str | os.PathLike[str], task: str) -> None:
    """Raise OnebranchError unless the packages that read a third-party file are installed.

    task: what is done with the file, such as "running"; begins the message.
    """
    if is_pytorch_file(name):
        require("spandrel", f"{task} PyTorch weights such as {name}")
    else:
        require("onnx", f"{task} ONNX files")


def _is_foreign_safetensors(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size)) if size <= MAX_SAFETENSORS_HEADER_BYTES else None
    except (OSError, ValueError, RecursionError):
        return False
    if not isinstance(header, dict):
        return False
    metadata = header.get("__metadata__") or {}
    is_ours = isinstance(metadata, dict) and ("onebranch" in metadata or is_checkpoint(metadata))
    return not is_ours and any(name != "__metadata__" for name in header)
