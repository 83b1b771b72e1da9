"""Train an image-enhancement network with many branches, merge it, provably, into one convolution per block.

Every public name is imported when it is first used, so that `import onebranch` loads nothing else.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from onebranch.blocks.plan import MergePlan
    from onebranch.enhancer.enhancer import enhance
    from onebranch.enhancer.folders import BatchOptions, enhance_files
    from onebranch.enhancer.names import Naming
    from onebranch.enhancer.options import Options
    from onebranch.enhancer.single_file import FileOptions
    from onebranch.errors import OnebranchError
    from onebranch.evaluation import evaluate
    from onebranch.exporting.files import export
    from onebranch.images.encoders.encoding import Encoding
    from onebranch.images.picture import Picture
    from onebranch.images.reading import read as read_picture
    from onebranch.images.writing import write as write_picture
    from onebranch.merging.dispatch import merge, verify
    from onebranch.model.catalogue import load
    from onebranch.model.file import Model
    from onebranch.model.file import write as save

_PLACES = {
    "Encoding": ("onebranch.images.encoders.encoding", "Encoding"),
    "BatchOptions": ("onebranch.enhancer.folders", "BatchOptions"),
    "Model": ("onebranch.model.file", "Model"),
    "Naming": ("onebranch.enhancer.names", "Naming"),
    "OnebranchError": ("onebranch.errors", "OnebranchError"),
    "Options": ("onebranch.enhancer.options", "Options"),
    "Picture": ("onebranch.images.picture", "Picture"),
    "MergePlan": ("onebranch.blocks.plan", "MergePlan"),
    "FileOptions": ("onebranch.enhancer.single_file", "FileOptions"),
    "enhance": ("onebranch.enhancer.enhancer", "enhance"),
    "enhance_files": ("onebranch.enhancer.folders", "enhance_files"),
    "evaluate": ("onebranch.evaluation", "evaluate"),
    "export": ("onebranch.exporting.files", "export"),
    "load": ("onebranch.model.catalogue", "load"),
    "merge": ("onebranch.merging.dispatch", "merge"),
    "read_picture": ("onebranch.images.reading", "read"),
    "save": ("onebranch.model.file", "write"),
    "verify": ("onebranch.merging.dispatch", "verify"),
    "write_picture": ("onebranch.images.writing", "write"),
}
"""Module and name of everything public."""

__all__ = [
    "BatchOptions",
    "Encoding",
    "FileOptions",
    "MergePlan",
    "Model",
    "Naming",
    "OnebranchError",
    "Options",
    "Picture",
    "enhance",
    "enhance_files",
    "evaluate",
    "export",
    "load",
    "merge",
    "read_picture",
    "save",
    "verify",
    "write_picture",
]


def __getattr__(name: str) -> Any:
    """The public name, imported now."""
    if name not in _PLACES:
        raise AttributeError(f"module 'onebranch' has no attribute '{name}'")
    module, attribute = _PLACES[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
