"""Options that are sent to other machines, with the content of their model file."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from onebranch.enhancer.options import Options
from onebranch.model.catalogue import CATALOGUE, find, load
from onebranch.model.file import Model
from onebranch.model.third_party import is_onnx_file, is_third_party_file


@dataclass(frozen=True)
class ShippedOptions:
    """Options of which the model is a name in the catalogue, a `Model`, or the content of a file.

    options: without the file's name. file_name, content: of a third-party file.
    """

    options: Options
    file_name: str = ""
    content: bytes = b""

    def opened(self, folder: Path) -> Options:
        """The options; the content of a model file is written to a file in the folder."""
        if not self.file_name:
            return self.options
        file = folder / self.file_name
        file.write_bytes(self.content)
        return replace(self.options, model=file)


def shipped(options: Options) -> ShippedOptions:
    """The options with their model, for machines that do not have the model's file."""
    model = options.model
    if model is None or isinstance(model, Model) or os.fspath(model) in CATALOGUE:
        return ShippedOptions(options)
    if not is_third_party_file(model):
        return ShippedOptions(replace(options, model=load(model)))
    path = find(model)
    return ShippedOptions(options, path.name, _content(path))


def _content(path: Path) -> bytes:
    """The content of a third-party file, with the external data of an ONNX file inside."""
    if not is_onnx_file(path):
        return path.read_bytes()
    from onebranch.graph.onnx.file import read

    content: bytes = read(path).SerializeToString()
    return content
