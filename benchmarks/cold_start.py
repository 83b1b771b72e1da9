"""A cold start in steps: a new interpreter does what `onebranch enhance` does to one picture.

`python -m benchmarks.cold_start SOURCE TARGET` prints when each step ended, by the clock that all
processes of a machine share (CLOCK_MONOTONIC; Linux and macOS).
"""

import json
import sys
import time
from collections.abc import Callable, Iterator

START = time.monotonic()

STEPS = (
    "interpreter",
    "click",
    "numpy",
    "onebranch's modules",
    "libvips",
    "reading the picture",
    "opening the model",
    "enhancing",
    "writing the picture",
    "exit",
)
"""Every step in order; the parent process takes the start of the first and the end of the last."""


def main(source: str, target: str) -> None:
    """Run the steps and print their times as one JSON list."""
    moments = [START]
    for step in _steps(source, target):
        step()
        moments.append(time.monotonic())
    print(json.dumps(moments), flush=True)


def _steps(source: str, target: str) -> Iterator[Callable[[], object]]:
    """The steps between the interpreter's start and its exit."""

    def command_line() -> None:
        import click  # noqa: F401

    def numpy() -> None:
        import os

        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command does
        import numpy  # noqa: F401

    def modules() -> None:
        import onebranch.enhancer.folders  # noqa: F401

    def libvips() -> None:
        import onebranch.images.decoders.decoding
        import onebranch.images.encoders.encoding  # noqa: F401

    yield from (command_line, numpy, modules, libvips)
    from onebranch.enhancer.enhancer import Enhancer
    from onebranch.enhancer.options import Options
    from onebranch.images.reading import read
    from onebranch.images.writing import write

    objects: dict[str, object] = {}

    def reading() -> None:
        objects["picture"] = read(source)

    def opening() -> None:
        objects["enhancer"] = enhancer = Enhancer(Options())
        enhancer.stages_for((1, 1))

    def enhancing() -> None:
        enhancer, picture = objects["enhancer"], objects["picture"]
        objects["result"] = enhancer.enhance(picture)  # type: ignore[attr-defined]  # an Enhancer

    def writing() -> None:
        write(objects["result"], target, overwrite=True)  # type: ignore[arg-type]  # a Picture

    yield from (reading, opening, enhancing, writing)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
