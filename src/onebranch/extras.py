"""Checks for optional packages, with an error of one line if a required one is not installed."""

import importlib.util

from onebranch.errors import OnebranchError

EXTRAS = {
    "cluster": ("ray", "fsspec"),
    "onnx": ("onnx", "onnxruntime"),
    "gpu": ("onnxruntime_ep_webgpu", "onnxruntime", "onnx"),
    "openvino": ("openvino", "onnx"),
    "spandrel": ("spandrel", "torch", "torchvision", "onnx", "onnxruntime", "onnxscript"),
    "serve": ("fastapi", "uvicorn", "prometheus_client"),
    "train": ("torch",),
    "video": ("av",),
}
"""The packages that must be importable for each extra, as in `pip install 'onebranch[NAME]'`."""


def missing_packages(extra: str, packages: tuple[str, ...] | None = None) -> list[str]:
    """The packages of an extra that cannot be imported; nothing is imported. packages: only these."""
    names = EXTRAS[extra] if packages is None else packages
    return [name for name in names if importlib.util.find_spec(name) is None]


def require(extra: str, task: str, packages: tuple[str, ...] | None = None) -> None:
    """Raise OnebranchError, with the command that installs the extra, unless its packages can be imported.

    task: what needs the extra; begins the message. packages: those that the task needs; None: all.

    >>> require("onnx", "merging ONNX files")
    """
    if missing := missing_packages(extra, packages):
        raise OnebranchError(
            f"{task} needs {' and '.join(missing)}; install with: pip install 'onebranch[{extra}]' (in a"
            f" checkout: pip install -e '.[{extra}]')"
        )
