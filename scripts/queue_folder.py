"""The folder of the training queue, which several scripts read."""

import os
from pathlib import Path


def queue_folder() -> Path:
    """$ONEBRANCH_LADDER, or ~/.cache/onebranch/ladder."""
    return Path(os.environ.get("ONEBRANCH_LADDER") or "~/.cache/onebranch/ladder").expanduser()
