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
    "info": "Say what a model file holds: network, scores, plan, proof.",
    "merge": "Merge branches into fewer convolutions, with a proof.",
    "quantize": "Make a merged model run in 8-bit integers.",
    "verify": "Check a merged file's proof again, from the two files.",
    "draw": "Draw one network, or two side by side, as SVG.",
    "evaluate": "Score a model on a folder of pictures.",
    "new-config": "Print a training config to start from.",
    "train": "Train a network from a config and a folder of pictures.",
    "export": "Write a model as ONNX or as a Compact file.",
    "bench": "Time networks in every runtime and precision on this machine.",
    "demo": "Double a photograph and compare it with bicubic.",
}
"""Every command and its one line of help; `onebranch.cli.NAME` holds the click command `command`."""


class _Commands(click.Group):
    """Imports the module of a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"onebranch.cli.{name.replace('-', '_')}")
        found: click.Command = module.command
        return found

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
    """Run the command line: mistakes, and what the system refuses, are one line and exit code 2."""
    atexit.register(gc.freeze)  # no search for garbage by a process that ends
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file's name may be no text in the terminal's encoding
            stream.reconfigure(errors="backslashreplace")
    try:
        onebranch(prog_name="onebranch", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except OnebranchError as error:
        click.echo(f"onebranch: {error}", err=True)
        sys.exit(2)
    except BrokenPipeError:  # the reader of our output, such as head, has enough
        sys.exit(1)
    except OSError as error:
        place = "" if error.filename is None else f": '{error.filename}'"
        click.echo(f"onebranch: {OnebranchError(f'{error.strerror or error}{place}')}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("onebranch: stopped", err=True)
        sys.exit(130)
