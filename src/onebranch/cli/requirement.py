"""One clear line where a command needs PyTorch and it is not installed."""

import importlib.util

from onebranch.errors import OnebranchError


def require_torch(command: str) -> None:
    """Raise OnebranchError with the way out unless PyTorch can be imported."""
    if importlib.util.find_spec("torch") is None:
        raise OnebranchError(
            f"'onebranch {command}' needs PyTorch; install it with: pip install 'onebranch[train]' (in a"
            " checkout: pip install -e '.[train]')"
        )
