"""The command line: one module per command, imported only when that command runs."""

import atexit
import gc
import importlib
import io
import sys

import click

from onebranch import __version__
from onebranch.errors import OnebranchError, nearest

COMMANDS = {
    "enhance": "Enhance pictures: upscale, downscale or denoise.",
    "compare": "Compare two pictures: PSNR, SSIM, a map of the differences.",
    "models": "List the models that ship with the package.",
    "info": "Show the content of a model file: network, scores, plan, proof.",
    "merge": "Merge branches into fewer convolutions, with a proof.",
    "quantize": "Quantize a merged model to 8-bit integers.",
    "verify": "Verify the proof of a merged file against its original.",
    "draw": "Draw one network, or two side by side, as SVG.",
    "evaluate": "Score a model on a folder of pictures.",
    "new-config": "Write an example training config.",
    "train": "Train a network from a config and a folder of pictures.",
    "export": "Write a model as ONNX, a Compact file or an mpv shader.",
    "page": "Write a static page that enhances pictures in the browser.",
    "bench": "Time models in every installed runtime and precision.",
    "serve": "Serve a page and an HTTP interface that enhances pictures.",
    "demo": "Double a photograph and compare it with bicubic.",
}
"""Every command with its help line; the module `onebranch.cli.NAME` holds the click command `command`."""


class _Commands(click.Group):
    """Imports the module of a command only when that command runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"onebranch.cli.{name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command, or an error that names the nearest one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise OnebranchError(f"there is no command '{args[0]}'; {nearest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="onebranch")
def onebranch() -> None:
    """Train image-enhancement networks with many branches, merge them, provably, run them anywhere."""


def main() -> None:
    """Run the command line; mistakes of the user and system errors are one line and exit code 2."""
    atexit.register(gc.freeze)  # no garbage collection while the process exits
    for stream in (sys.stdout, sys.stderr):
        if isinstance(
            stream, io.TextIOWrapper
        ):  # file names may not be representable in the terminal's encoding
            stream.reconfigure(errors="backslashreplace")
    try:
        onebranch(prog_name="onebranch", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except OnebranchError as error:
        click.echo(f"onebranch: {error}", err=True)
        sys.exit(2)
    except MemoryError:
        click.echo("onebranch: there is not enough memory for this", err=True)
        sys.exit(2)
    except BrokenPipeError:  # the reader of our output, such as head, has closed it
        sys.exit(1)
    except OSError as error:
        filename = "" if error.filename is None else f": '{error.filename}'"
        click.echo(f"onebranch: {OnebranchError(f'{error.strerror or error}{filename}')}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("onebranch: stopped", err=True)
        sys.exit(130)
