"""The training queue: the recipes of models/ladder.toml one after another, in the background, resumable.

    make ladder              start the queue, or start it again after it was killed
    make ladder-status       what runs: pixels seen, validation PSNR, time left, and what is waiting
    make ladder-pause        stop computing and keep the process; benchmarks may run
    make ladder-resume       go on
    make ladder DEVICE=cuda LIMIT=540    train on a GPU for 540 seconds, write a checkpoint and end

On a GPU, blocks compute in bfloat16, and every recipe processes three times as many pixels (`--times`),
in a run of its own (NAME-times-3). `scripts/ladder_on_gpu.sh` does this on another machine, with pictures
that `scripts/pack_pictures.py` chose.

Everything lies in the folder $ONEBRANCH_LADDER (by default ~/.cache/onebranch/ladder): a copy of the
package, so that work on the code never disturbs a run (`--update` copies it again), the runs with their
checkpoints, and the cache of decoded pictures. A recipe is done when its trained model exists;
a run of the study also when its log lies in models/study (delete the log of an arm that you change).
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from queue_folder import queue_folder

ROOT = Path(__file__).resolve().parent.parent
QUEUE = ROOT / "models" / "ladder.toml"
STUDY_LOGS = ROOT / "models" / "study"
LOWEST_PRIORITY = 19
"""The niceness of the queue."""


@dataclass(frozen=True)
class Ladder:
    """The folder of the queue and what lies in it."""

    folder: Path

    @property
    def package(self) -> Path:
        """The copy of the package that the queue runs from."""
        return self.folder / "package"

    @property
    def running(self) -> Path:
        """A file that holds the process id while the queue computes."""
        return self.folder / "running"

    @property
    def paused(self) -> Path:
        """A file that holds the process id while the queue is paused."""
        return self.folder / "paused"

    def run_folder(self, name: str, times: float = 1) -> Path:
        """The folder of a recipe's run; `times`: pixels as a multiple of the recipe's."""
        return self.folder / "runs" / (name if times == 1 else f"{name}-times-{times:g}")

    def trained(self, name: str) -> Path | None:
        """The recipe's trained model, that of the longest run if there are several; None if there is none."""
        folders = [self.run_folder(name), *(self.folder / "runs").glob(f"{name}-times-*")]
        models = [folder / f"{name}.safetensors" for folder in folders]
        lengths = {model: _factor(model.parent.name) for model in models if model.exists()}
        return max(lengths, key=lambda model: lengths[model], default=None)

    def is_done(self, name: str) -> bool:
        """True if the recipe's model is trained, or the log of a run of the study is collected already."""
        return self.trained(name) is not None or (STUDY_LOGS / f"{name}.jsonl").exists()


def _factor(folder: str) -> float:
    """The multiple of the recipe's pixels in the name of a run's folder.

    >>> _factor("photo-x2"), _factor("photo-x2-times-3")
    (1.0, 3.0)
    """
    return float(folder.partition("-times-")[2] or 1)


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("command", choices=("run", "status", "pause", "resume", "train"))
    parser.add_argument("recipes", nargs="*", type=Path, help="of `train`: config files")
    parser.add_argument("--update", action="store_true", help="copy the package again before it runs")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--data", type=Path, help="folder of the packed pictures, instead of the recipes' own"
    )
    parser.add_argument("--times", type=float, help="pixels as a multiple of the recipes' [cuda: 3; cpu: 1]")
    parser.add_argument("--limit", type=float, help="seconds after which to write a checkpoint and end")
    arguments = parser.parse_args()
    ladder = Ladder(queue_folder())
    if arguments.command == "run":
        sys.exit(run(ladder, recipes(QUEUE, ladder), arguments))
    elif arguments.command == "train":
        train_all(ladder, arguments.recipes, options_of(arguments), arguments.limit)
    elif arguments.command == "status":
        print("\n".join(status(ladder, recipes(QUEUE, ladder))))
    elif arguments.command == "pause":
        print(_signal(ladder.running, ladder.paused, signal.SIGSTOP, "paused"))
    else:
        print(_signal(ladder.paused, ladder.running, signal.SIGCONT, "resumed"))


def recipes(queue: Path, ladder: Ladder) -> list[Path]:
    """The config files of a queue, in its order; "study 1G": the runs of models/study.toml with 1G pixels."""
    paths: list[Path] = []
    for name in tomllib.loads(queue.read_text(encoding="utf-8"))["recipes"]:
        recipe, _, pixels = name.partition(" ")
        if recipe == "study":
            paths += [path for path in study_recipes(ladder) if f"-{pixels}-" in path.stem]
        else:
            paths.append(queue.parent / f"{name}.toml")
    return paths


def study_recipes(ladder: Ladder) -> list[Path]:
    """The configs of the study's runs, written into the queue's folder."""
    command = [sys.executable, str(ROOT / "scripts" / "study.py"), "recipes", str(ladder.folder / "study")]
    written = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return [Path(line) for line in written.splitlines()]


def run(ladder: Ladder, configs: list[Path], arguments: argparse.Namespace) -> int:
    """Train what is not trained yet, in a process that uses the copied package; returns its exit status."""
    if _process_of(ladder.running) or _process_of(ladder.paused):
        print("the training queue is running already; see make ladder-status", file=sys.stderr)
        return 2
    ladder.folder.mkdir(parents=True, exist_ok=True)
    if arguments.update or not ladder.package.exists():
        copy_package(ladder.package)
    command = [sys.executable, "-S", __file__, "train", *map(str, configs), "--device", arguments.device]
    for option in ("limit", "data", "times"):
        if (value := getattr(arguments, option)) is not None:
            command += [f"--{option}", str(value)]
    process = subprocess.Popen(command, env=environment(ladder), cwd=ladder.folder, start_new_session=True)
    try:
        return process.wait()
    except BaseException:  # Ctrl-C does not reach another session
        process.terminate()
        process.wait()
        raise


def copy_package(target: Path) -> None:
    """Copy the package, the native engine included, to `target`/onebranch."""
    shutil.rmtree(target, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src" / "onebranch", target / "onebranch", ignore=ignored)


def environment(ladder: Ladder) -> dict[str, str]:
    """The environment in which Python finds the copied package first; run it with -S (no site hooks)."""
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = [str(ladder.package), *filter(None, inherited)]
    paths += [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Options:
    """How recipes are trained: device, pixels as a multiple of the recipe's, folder of other pictures."""

    device: str
    times: float
    data: Path | None


def options_of(arguments: argparse.Namespace) -> Options:
    """The options of a command line; a GPU processes three times as many pixels, unless said otherwise."""
    times = arguments.times or (3.0 if arguments.device == "cuda" else 1.0)
    return Options(arguments.device, times, arguments.data and arguments.data.resolve())


def train_all(ladder: Ladder, configs: list[Path], options: Options, limit: float | None) -> None:
    """Train the recipes one after another; an error of one is printed, and the next one begins."""
    from onebranch.errors import OnebranchError

    if options.device == "cpu":
        _lower_priority()
    end = None if limit is None else time.monotonic() + limit
    with _marked(ladder.running, ladder.paused):
        for path in configs:
            if ladder.is_done(path.stem) or (end is not None and time.monotonic() >= end):
                continue
            try:
                train_one(ladder, path, options, None if end is None else end - time.monotonic())
            except OnebranchError as error:
                print(f"{path.stem}: {error}", file=sys.stderr, flush=True)


def _lower_priority() -> None:
    """Give this process the lowest priority.

    Linux divides the processor among sessions first (autogroup): the niceness of a process has no effect on
    the processes of other sessions, so the niceness of its own session is changed as well.
    """
    os.nice(max(0, LOWEST_PRIORITY - os.nice(0)))
    autogroup = Path("/proc/self/autogroup")
    if os.getsid(0) == os.getpid() and autogroup.exists():
        with suppress(OSError):
            autogroup.write_text(str(LOWEST_PRIORITY))


def train_one(ladder: Ladder, path: Path, options: Options, limit: float | None) -> None:
    """Train one recipe in its folder."""
    from onebranch.training import config as configs
    from onebranch.training.loop import train

    config = adapted(configs.read(path), ladder, options)
    train(config, ladder.run_folder(path.stem, options.times), limit_seconds=limit)


def adapted(config: Any, ladder: Ladder, options: Options) -> Any:
    """A recipe's config with the queue's folders, its length, and the settings of the device."""
    from msgspec.structs import replace

    training, data = config.training, config.data
    if training.init_from and (start := ladder.trained(Path(training.init_from).stem)):
        training = replace(training, init_from=str(start))
    pixels = f"{_pixels_of(training.pixels) * options.times:g}G" if training.pixels else None
    steps = round(training.steps * options.times)
    training = replace(training, device=options.device, steps=steps, pixels=pixels)
    if options.device == "cuda" and training.precision == "float32":
        training = replace(training, precision="bfloat16")
    data = replace(data, cache=str(ladder.folder / "cache"))
    if options.data:
        validation = options.data / "validation" if data.validation else None
        data = replace(data, train=str(options.data / "train"), validation=validation and str(validation))
    return replace(config, training=training, data=data)


@contextmanager
def _marked(running: Path, paused: Path) -> Iterator[None]:
    """Keep this process's id in the file `running`; both files are gone afterwards."""
    running.write_text(str(os.getpid()))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        running.unlink(missing_ok=True)
        paused.unlink(missing_ok=True)


def _process_of(marker: Path) -> int | None:
    """The process id in a marker file, if that process runs."""
    try:
        process = int(marker.read_text())
        os.kill(process, 0)
    except (OSError, ValueError):
        return None
    return process


def _signal(source: Path, target: Path, number: int, done: str) -> str:
    """Send a signal to the process in `source` and rename this file to `target`; returns what happened."""
    process = _process_of(source)
    if process is None:
        return f"nothing to do: no training queue is {'running' if done == 'paused' else 'paused'}"
    os.kill(process, number)
    source.replace(target)
    return f"the training queue (process {process}) is {done}"


def status(ladder: Ladder, configs: list[Path]) -> list[str]:
    """One line for the queue and one for every recipe."""
    process, paused = _process_of(ladder.running), _process_of(ladder.paused)
    state = f"running (process {process})" if process else "stopped"
    state = f"paused (process {paused})" if paused else state
    study = [path for path in configs if path.parent == ladder.folder / "study"]
    lines = [_recipe_line(ladder, path) for path in configs if path not in study]
    if study:
        done = sum(ladder.is_done(path.stem) for path in study)
        lines.append(f"  {'study of branches':20} {done} of {len(study)} runs done")
    return [f"training queue: {state}", *lines]


def _recipe_line(ladder: Ladder, path: Path) -> str:
    name = path.stem
    trained = ladder.trained(name)
    folder = trained.parent if trained else _last_run(ladder, name)
    total = _pixels(path) * _factor(folder.name)
    records = _records(folder / "log.jsonl")
    seen = _last(records, "gigapixels", 0.0)
    text = f"  {folder.name:20} {seen:7.3f} of {total:g} Gpx"
    psnr, speed = _last(records, "psnr", None), _last(records, "megapixels_per_second", None)
    text += f"  validation {psnr:.3f} dB" if psnr is not None else ""
    if trained:
        return text + "  done"
    if not speed:
        return text + "  waiting"
    return text + f"  {speed:.3f} Mpx/s  {(total - seen) * 1e3 / speed / 3600:.1f} h left"


def _last_run(ladder: Ladder, name: str) -> Path:
    """The run of a recipe whose log was written last."""
    folders = [ladder.run_folder(name), *(ladder.folder / "runs").glob(f"{name}-times-*")]
    logs = [folder / "log.jsonl" for folder in folders if (folder / "log.jsonl").exists()]
    return max(logs, key=lambda log: log.stat().st_mtime).parent if logs else folders[0]


def _pixels(path: Path) -> float:
    """The length of a recipe in gigapixels."""
    return _pixels_of(tomllib.loads(path.read_text(encoding="utf-8"))["training"]["pixels"])


def _pixels_of(text: str) -> float:
    """A number of pixels such as "15G" in gigapixels."""
    from onebranch.training.config import parse_pixels

    return 1e-9 * parse_pixels(text)


def _records(log: Path) -> list[dict[str, Any]]:
    try:
        lines = log.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    records = []
    for line in lines:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:  # the line that is being written
            continue
    return records


def _last(records: list[dict[str, Any]], key: str, default: Any) -> Any:
    return next((record[key] for record in reversed(records) if key in record), default)


if __name__ == "__main__":
    main()
