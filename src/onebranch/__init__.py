"""Train an image-enhancement network with many branches, merge it, provably, into one convolution per block.

Public names are imported when they are first used, so that `import onebranch` loads nothing else.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

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
    from onebranch.quantization.folder import quantize
    from onebranch.training.from_config import train
    from onebranch.video.frames import enhance_video, enhanced_frames
    from onebranch.video.options import VideoOptions

_SOURCES = {
    "BatchOptions": ("onebranch.enhancer.folders", "BatchOptions"),
    "Encoding": ("onebranch.images.encoders.encoding", "Encoding"),
    "FileOptions": ("onebranch.enhancer.single_file", "FileOptions"),
    "MergePlan": ("onebranch.blocks.plan", "MergePlan"),
    "Model": ("onebranch.model.file", "Model"),
    "Naming": ("onebranch.enhancer.names", "Naming"),
    "OnebranchError": ("onebranch.errors", "OnebranchError"),
    "Options": ("onebranch.enhancer.options", "Options"),
    "Picture": ("onebranch.images.picture", "Picture"),
    "VideoOptions": ("onebranch.video.options", "VideoOptions"),
    "enhance": ("onebranch.enhancer.enhancer", "enhance"),
    "enhance_files": ("onebranch.enhancer.folders", "enhance_files"),
    "enhance_video": ("onebranch.video.frames", "enhance_video"),
    "enhanced_frames": ("onebranch.video.frames", "enhanced_frames"),
    "evaluate": ("onebranch.evaluation", "evaluate"),
    "export": ("onebranch.exporting.files", "export"),
    "load": ("onebranch.model.catalogue", "load"),
    "merge": ("onebranch.merging.dispatch", "merge"),
    "quantize": ("onebranch.quantization.folder", "quantize"),
    "read_picture": ("onebranch.images.reading", "read"),
    "save": ("onebranch.model.file", "write"),
    "train": ("onebranch.training.from_config", "train"),
    "verify": ("onebranch.merging.dispatch", "verify"),
    "write_picture": ("onebranch.images.writing", "write"),
}
"""Module and attribute of every public name."""

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
    "VideoOptions",
    "enhance",
    "enhance_files",
    "enhance_video",
    "enhanced_frames",
    "evaluate",
    "export",
    "load",
    "merge",
    "quantize",
    "read_picture",
    "save",
    "train",
    "verify",
    "write_picture",
]


def __getattr__(name: str) -> Any:
    """The public name; its module is imported on first use."""
    if name not in _SOURCES:
        raise AttributeError(f"module 'onebranch' has no attribute '{name}'")
    if name == "train":
        from onebranch.extras import require

        require("train", "training")
    module, attribute = _SOURCES[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
