"""Imported once by the process from which those of the pictures are forked: everything that they need.

It starts no thread, because threads do not survive a fork.
"""

import hashlib
import importlib
import signal
import sys

import PIL.Image

from onebranch.runtime.selection import installed

MODULES = (
    "onebranch.serve.worker",
    "onebranch.images.decoders.decoding",
    "onebranch.images.decoders.pillow",
    "onebranch.images.encoders.stream",
    "onebranch.images.writing",
)
"""What a picture imports late otherwise."""

for name in MODULES:
    importlib.import_module(name)
if installed("engine"):
    importlib.import_module("onebranch.enhancer.engine_stage")

PIL.Image.preinit()
hashlib.sha256()
FORK_SERVER = "from multiprocessing.forkserver import main"
"""How the program begins that multiprocessing runs as the fork server."""

if any(
    word.startswith(FORK_SERVER) for word in sys.orig_argv
):  # elsewhere, as in tests, SIGTERM keeps its meaning
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends with the service, which finishes its work first
