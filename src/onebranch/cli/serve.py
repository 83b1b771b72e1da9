"""`onebranch serve`: the HTTP service."""

import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from onebranch import __version__
from onebranch.cli.option_groups import DEVICE_OPTION
from onebranch.errors import OnebranchError
from onebranch.serve.limits import ServiceLimits, option_name

LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")

TOKEN_VARIABLE = "ONEBRANCH_TOKEN"


def _unit_text(unit: str) -> str:
    """The text ", in UNIT" for the help of a limit; empty for counts, whose help names what is counted."""
    return f", in {unit}" if unit in ("bytes", "pixels", "seconds") else ""


def _limit_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option for every limit."""
    for each in reversed(fields(ServiceLimits)):
        option = click.option(
            option_name(each.name),
            each.name,
            type=int,
            default=each.default,
            show_default=True,
            help=each.metadata["about"] + _unit_text(each.metadata["unit"]) + ".",
        )
        command = option(command)
    return command


@click.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address on which to listen.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="TCP port; 0: any free."
)
@click.option(
    "--workers", type=click.IntRange(1, 256), help="Number of concurrent pictures [default: one per core]."
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help=f"File with a token that clients must send [default: the variable {TOKEN_VARIABLE}, else none].",
)
@click.option(
    "--allowed-host",
    "hosts",
    multiple=True,
    help="Name that clients may use in the Host header, repeatable [default: this machine's loopback names if"
    " --host is one of them; otherwise every name is accepted].",
)
@click.option("--trusted-proxy", help="Address of a proxy whose X-Forwarded-For is trusted [default: none].")
@DEVICE_OPTION
@_limit_options
def command(
    host: str,
    port: int,
    workers: int | None,
    token_file: Path | None,
    hosts: tuple[str, ...],
    trusted_proxy: str | None,
    device: str,
    **limits: Any,
) -> None:
    """Serve a page and an HTTP interface that enhances pictures.

    Only this machine can connect, unless --host is another address. Every picture is decoded and enhanced in
    its own process with limited rights, memory and time. On SIGTERM, accepted requests are completed before
    the service exits.
    """
    from onebranch.extras import require

    require("serve", "serving")
    # Inherited by the worker processes, whose address space is limited: threads of BLAS and arenas of malloc
    # would fill it.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    from onebranch.runtime.cores import cores
    from onebranch.serve.device import choose_device
    from onebranch.serve.server import serve
    from onebranch.serve.service import Settings

    accepted = hosts or (LOOPBACK if host in LOOPBACK else None)
    checked_limits, token = ServiceLimits(**limits), _token(token_file)
    settings = Settings(
        checked_limits, workers or cores(), token, accepted, __version__, *choose_device(device)
    )
    serve(settings, host, port, trusted_proxy)


def _token(file: Path | None) -> str:
    """The token from the file, or from the environment. Raises OnebranchError if the file has none."""
    if file is None:
        return os.environ.get(TOKEN_VARIABLE, "").strip()
    try:
        token = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise OnebranchError(f"cannot read the token in '{file}': {error}") from None
    if not token:
        raise OnebranchError(f"the token file '{file}' is empty; write a long random word into it")
    return token
