"""The processor's name, and the extensions of its instruction set that Linux lists."""

import platform
from functools import cache
from pathlib import Path

CPU_FACTS = Path("/proc/cpuinfo")
"""Where Linux describes the processor."""


def processor_name() -> str:
    """The processor's name as the operating system gives it; empty if it gives none."""
    names = (line.partition(":")[2].strip() for line in _lines() if line.startswith("model name"))
    return next(names, platform.processor())


@cache
def processor_flags() -> frozenset[str]:
    """Names such as "avx2" and "avx512f". Known on Linux on x86 only; elsewhere it is empty."""
    flags = (line.partition(":")[2].split() for line in _lines() if line.startswith("flags"))
    return frozenset(next(flags, ()))


def _lines() -> list[str]:
    """The description of the processor; empty where there is none."""
    try:
        return CPU_FACTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
