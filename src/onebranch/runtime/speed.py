"""How fast the engine runs a model on this machine: measured once, then kept in the user's cache folder."""

import json
import time
from collections.abc import Callable, Iterable

import numpy as np

from onebranch import strict_json
from onebranch.model.file import Model
from onebranch.runtime.engine import Engine
from onebranch.runtime.engine_library import instruction_sets, path
from onebranch.runtime.engine_network import describe
from onebranch.runtime.processor import processor_name
from onebranch.spec.network import NetworkSpec, to_json
from onebranch.user_cache import installed_version, read_cached, store

EDGE_PIXELS = 128
"""Edge of the picture that is timed: a few milliseconds of work."""

ROUNDS = 5
"""The number of timed runs, of which the fastest counts."""

_MEASURED: dict[str, dict[str, float]] = {}
"""The speeds that this process knows, by the names of their cache files."""


def milliseconds_per_megapixel(model: Model, precision: str) -> float:
    """Milliseconds of one core in the engine per million pixels of the network's input.

    It is processor time, measured on a small picture: an estimate; `onebranch bench` measures thoroughly.
    Raises OnebranchError if the engine is unavailable or does not support the model in that precision.
    """
    engine = Engine(describe(model, precision), threads=1)
    size = (EDGE_PIXELS, EDGE_PIXELS, model.spec.channels)
    picture = np.arange(EDGE_PIXELS**2 * model.spec.channels).astype(np.uint8).reshape(size)
    seconds = min(_seconds(engine, picture) for _ in range(ROUNDS))
    return 1e3 * seconds * 1e6 / EDGE_PIXELS**2


def kept_speeds(model: Model, precisions: Iterable[str]) -> dict[str, float]:
    """`milliseconds_per_megapixel` of each precision, measured once per machine and then kept.

    They depend on the network's spec, the processor, the version of onebranch and the engine's library, whose
    digest is the name of the cache file; damaged files are ignored. Raises OnebranchError as
    `milliseconds_per_megapixel` does.
    """
    return kept(
        _cache_name(model.spec), precisions, lambda precision: milliseconds_per_megapixel(model, precision)
    )


def kept(name: str, kinds: Iterable[str], measure: Callable[[str], float]) -> dict[str, float]:
    """What `measure` gives for each kind, measured once per machine. name: of the cache file.

    Damaged files are ignored.
    """
    kinds = list(kinds)
    speeds = _MEASURED.get(name) or _kept(read_cached(name))
    missing = {kind: measure(kind) for kind in kinds if kind not in speeds}
    if missing:
        speeds = {**speeds, **missing}
        store(name, strict_json.dumps(speeds).encode())
    _MEASURED[name] = speeds
    return {kind: speeds[kind] for kind in kinds}


def _cache_name(spec: NetworkSpec) -> str:
    """The name of the file that holds the speeds of networks of this spec on this machine."""
    library = path().stat()
    return cache_name(instruction_sets()[0], to_json(spec), str(library.st_size), str(library.st_mtime_ns))


def cache_name(*facts: str) -> str:
    """The name of a file of speeds that depend on these facts, the processor and onebranch's version."""
    import hashlib  # imported late: it loads OpenSSL, which enhancing does not need

    text = chr(0).join([processor_name(), installed_version("onebranch"), *facts])
    return f"speed-{hashlib.sha256(text.encode()).hexdigest()}.json"


def _kept(content: bytes | None) -> dict[str, float]:
    """The speeds in a cache file; empty if there is none, or if it holds anything else."""
    try:
        speeds = json.loads(content or b"{}")
        return {str(name): float(speed) for name, speed in speeds.items() if 0 < float(speed) < 1e9}
    except (ValueError, TypeError, AttributeError):
        return {}


def _seconds(engine: Engine, picture: np.ndarray) -> float:
    start = time.thread_time()
    engine.run(picture, "uint8")
    return time.thread_time() - start
