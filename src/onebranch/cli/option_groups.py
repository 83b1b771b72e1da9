"""Options that several commands share, and groups of options that a command receives as one typed value."""

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from onebranch.graph.analysis.valid_sizes import InputSize

SIDE = re.compile("[0-9]{1,7}")
"""A height, a width or a number of channels; more digits are taken for a mistake."""

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

MAX_PIXELS_OPTION = click.option(
    "--max-pixels", type=int, help="Largest picture that is read, in pixels [default: 1000000000]."
)
JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class InputSizeType(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """The type of --input-size: HxW or CxHxW, such as 48x96, as an `InputSize`."""

    name = "HxW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "InputSize":
        """The size. Raises OnebranchError for text that is none."""
        from onebranch.graph.analysis.valid_sizes import as_input_size

        parts = str(value).lower().split("x")
        if not all(SIDE.fullmatch(part) for part in parts):
            from onebranch.errors import OnebranchError

            raise OnebranchError(
                f"--input-size is height x width, such as 48x96, or channels x height x width, not '{value}'"
            )
        return as_input_size([int(part) for part in parts])


INPUT_SIZE_OPTION = click.option(
    "--input-size",
    type=InputSizeType(),
    help="Size on which an ONNX file runs that leaves it open: height x width, such as 48x96.",
)
INPUT_SIZES_OPTION = click.option(
    "--input-size",
    "input_sizes",
    type=InputSizeType(),
    multiple=True,
    help="ONNX: compare the models at this size, height x width (48x96); can be repeated  [sizes are found]",
)


def option_group(name: str, group: type[Any], *options: Decorator) -> Decorator:
    """Add options to a command, which receives their values as one argument `name` of the dataclass `group`.

    The options' parameter names are the fields of the dataclass.
    """
    names = [field.name for field in fields(group)]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def with_group(*arguments: Any, **values: Any) -> Any:
            values[name] = group(**{key: values.pop(key) for key in names})
            return command(*arguments, **values)

        decorated: Callable[..., Any] = with_group
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


DEVICE_OPTION = click.option(
    "--device",
    default="cpu",
    show_default=True,
    help="What computes the networks: cpu; gpu, or gpu:N for the GPU with index N; or auto: the faster one,"
    " measured once.",
)


@dataclass(frozen=True)
class RuntimeArguments:
    """The runtime, its precision, its device and its threads; see `Options`."""

    runtime: str
    precision: str
    device: str
    threads: int | None


runtime_options = option_group(
    "running",
    RuntimeArguments,
    click.option(
        "--runtime",
        default="auto",
        show_default=True,
        help="What runs the network: auto, engine, onnxruntime, openvino or torch.",
    ),
    click.option(
        "--precision",
        default="auto",
        show_default=True,
        help="Precision of the network: fp32, bf16, int8; auto: int8 for quantized model files, else fp32; or"
        " fast: the fastest whose loss the model records.",
    ),
    DEVICE_OPTION,
    click.option("--threads", type=int, help="Threads per picture [default: its share of the cores]."),
)
