"""Builds the engine for WebAssembly, or checks that the committed module is what the sources give.

python scripts/build_wasm.py [--update]. The compiler is Zig's Clang, from PyPI (ziglang); one
version gives the same bytes on every machine. It prints the module's sizes and fails where it differs from
src/web/engine.wasm (--update replaces that file instead), imports anything, or exceeds its size limits.
"""

import argparse
import gzip
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import brotli

ROOT = Path(__file__).parent.parent
ENGINE = ROOT / "src" / "engine"
COMMITTED = ROOT / "src" / "web" / "engine.wasm"
BUILD = ROOT / "build" / "wasm"

KERNELS = ("kernels_simd128.cpp",)
"""The sets of kernels in the module; the other kernels_*.cpp are for other processors."""

EXPORTS = (
    *(
        "ob_version",
        "ob_instruction_sets",
        "ob_open",
        "ob_close",
        "ob_output_height",
        "ob_output_width",
        "ob_run",
    ),
    *("ob_stream_open", "ob_stream_ready", "ob_stream_push", "ob_stream_close", "malloc", "free"),
)
"""The functions of the module: those of onebranch_engine.h without the peak's measurement, and memory."""

FLAGS = (
    *("-target", "wasm32-wasi", "-mexec-model=reactor", "-std=c++17", "-O3", "-msimd128", "-s"),
    *("-fno-exceptions", "-fno-rtti", "-DNDEBUG", "-DONEBRANCH_HAS_SIMD128"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-strict-aliasing"),
    *("-fvisibility=hidden", "-fvisibility-inlines-hidden", "-Wall", "-Wextra", "-Werror"),
    *("-Wl,--gc-sections", "-Wl,-z,stack-size=262144"),
)
"""No contraction of a * b + c and no relaxed SIMD: the same bits on every machine."""

MAX_GZIP_BYTES, MAX_BROTLI_BYTES = 130_000, 89_000
"""The module must stay below these sizes."""


def sources() -> list[str]:
    """Names of the engine's files that the module is compiled from."""
    names = sorted(path.name for path in ENGINE.glob("*.cpp"))
    return [n for n in names if not n.startswith(("kernels_", "program")) or n in KERNELS]


def build(module: Path) -> None:
    """Compile the module. The first run on a machine also compiles Zig's C++ library: a minute or two."""
    exports = [f"-Wl,--export={name}" for name in EXPORTS]
    command = [sys.executable, "-m", "ziglang", "c++", *FLAGS, *exports, *sources(), "-o", str(module)]
    caches = {name: str(BUILD / "cache") for name in ("ZIG_LOCAL_CACHE_DIR", "ZIG_GLOBAL_CACHE_DIR")}
    BUILD.mkdir(parents=True, exist_ok=True)
    subprocess.run(command, cwd=ENGINE, env=os.environ | caches, check=True)


def imported(module: bytes) -> list[str]:
    """The imports of a module, as module.name."""
    from wasmtime import Engine, Module

    return [f"{entry.module}.{entry.name}" for entry in Module(Engine(), module).imports]


def main() -> int:
    """Build, print the sizes, compare with the committed module or replace it; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--update", action="store_true", help="replace the committed module")
    update = parser.parse_args().update
    path = BUILD / "engine.wasm"
    build(path)
    module = path.read_bytes()
    gzipped, brotlied = len(gzip.compress(module, 9, mtime=0)), len(brotli.compress(module))
    print(f"engine.wasm: {len(module):,} bytes, gzip {gzipped:,}, brotli {brotlied:,}")
    if gzipped >= MAX_GZIP_BYTES or brotlied >= MAX_BROTLI_BYTES:
        print(f"it must stay below {MAX_GZIP_BYTES:,} gzip and {MAX_BROTLI_BYTES:,} brotli", file=sys.stderr)
        return 1
    if names := imported(module):
        print(f"it imports {', '.join(names)}; it must import nothing", file=sys.stderr)
        return 1
    if update:
        COMMITTED.write_bytes(module)
    elif COMMITTED.read_bytes() != module:
        version = importlib.metadata.version("ziglang")
        print(
            f"src/web/engine.wasm is not what the sources give with ziglang {version};"
            " make wasm UPDATE=--update replaces it",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
