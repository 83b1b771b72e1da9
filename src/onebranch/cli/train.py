"""`onebranch train`: train a network by a config and a folder of pictures."""

import os
import sys
from pathlib import Path

import click


@click.command("train")
@click.argument("config", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of checkpoints and results [default: runs/NAME].",
)
@click.option("--restart", is_flag=True, help="Start over even if the folder holds a checkpoint.")
@click.option("--quiet", is_flag=True, help="Print only errors and the path of the trained model.")
def command(config: Path, out: Path | None, restart: bool, quiet: bool) -> None:
    """Train the network that CONFIG (TOML) describes. A stopped run resumes from its last checkpoint.

    To train in several processes, such as one for each GPU: torchrun --nproc-per-node N -m onebranch train
    CONFIG.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: waiting threads must not busy-wait
    from onebranch.extras import require

    require("train", "training")
    from onebranch.training import config as configs
    from onebranch.training.loop import train

    read = configs.read(config)
    path = train(read, out or Path("runs") / read.name, resumes=not restart, shown=not quiet)
    if int(os.environ.get("RANK", "0")) == 0:
        click.echo(str(path))
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # PyTorch's threads outlive the process group and occasionally abort the interpreter at exit.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
