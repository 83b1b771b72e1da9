"""The study of branches: its runs, and the page and plot made from their logs.

    python scripts/study.py recipes FOLDER   write a config for every run of models/study.toml
    python scripts/study.py report           collect the logs of trained runs, draw the plot and the tables

Logs of trained runs are kept in models/study, with the processor time per pixel of every arm
(`scripts/study_times.py`); the page is docs/branches.md. `make study` makes the report.
"""

import argparse
import json
import shutil
import sys
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from queue_folder import queue_folder

ROOT = Path(__file__).resolve().parent.parent
STUDY = ROOT / "models" / "study.toml"
LOGS = ROOT / "models" / "study"
TIMES = LOGS / "times.json"
PAGE = ROOT / "docs" / "branches.md"
PLOT = ROOT / "docs" / "pictures" / "branches.png"

VALIDATIONS = 20
"""Validations of a run, evenly spaced."""

RESAMPLINGS = 10_000
"""Bootstrap resamplings of the seeds."""

SHOWN_DECIBELS = 3.0
"""The height of the plot, down from the highest value of a curve."""

DASHES = ("-", "--", ":", "-.")

NO_RUNS = "No run of the study is finished yet."

BEGIN, END = "<!-- begin: made by make study -->", "<!-- end: made by make study -->"


@dataclass(frozen=True)
class StudyRun:
    """One run: an arm of the study, its length and its seed."""

    arm: str
    pixels: str
    seed: int

    @property
    def name(self) -> str:
        """The name of the run's config, folder and log."""
        return f"study-{self.arm}-{self.pixels}-{self.seed}"


@dataclass(frozen=True)
class ArmTime:
    """Processor time of an arm in seconds per million pixels: while BN learns, and once it is frozen."""

    training: float
    frozen: float

    def minutes(self, pixels: float, freezes_at: float) -> float:
        """Processor minutes after some pixels of a run whose BN is frozen after `freezes_at` pixels.

        >>> ArmTime(training=6.0, frozen=3.0).minutes(20e6, freezes_at=10e6)
        1.5
        """
        before = min(pixels, freezes_at)
        return 1e-6 * (self.training * before + self.frozen * (pixels - before)) / 60


@dataclass(frozen=True)
class Curve:
    """The validations of a run: PSNR in dB against processor minutes."""

    minutes: tuple[float, ...]
    psnr: tuple[float, ...]

    def at(self, minutes: float) -> float:
        """The PSNR after some processor minutes, interpolated; NaN beyond the run's own time."""
        if not self.minutes or not self.minutes[0] <= minutes <= self.minutes[-1]:
            return float("nan")
        return float(np.interp(minutes, self.minutes, self.psnr))


def main() -> None:
    """Write the recipes or the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("recipes").add_argument("folder", type=Path)
    report_parser = commands.add_parser("report")
    report_parser.add_argument("--runs", type=Path, default=queue_folder() / "runs")
    arguments = parser.parse_args()
    if arguments.command == "recipes":
        print(*write_recipes(arguments.folder), sep="\n")
    else:
        collect(arguments.runs, LOGS)
        report(LOGS, PAGE, PLOT)


def read_study(path: Path = STUDY) -> dict[str, Any]:
    """The study's file as tables."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


def runs_of(study: dict[str, Any]) -> list[StudyRun]:
    """All runs, the short ones first; within a round seed by seed, so that arms can be compared early."""
    return [
        StudyRun(arm, part["pixels"], seed)
        for part in study["rounds"]
        for seed in part["seeds"]
        for arm in part["arms"]
    ]


def write_recipes(folder: Path) -> list[Path]:
    """Write a config for every run into `folder`; returns their paths in the order of training."""
    from onebranch.training import config as configs

    study = read_study()
    base = tomllib.loads((STUDY.parent / f"{study['base']}.toml").read_text(encoding="utf-8"))
    base["training"] |= study["training"]
    base["data"] = absolute_folders(base["data"], STUDY.parent)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for run in runs_of(study):
        path = folder / f"{run.name}.toml"
        path.write_text(recipe_text(base, study["arms"][run.arm], run), encoding="utf-8")
        steps = configs.read(path).training.steps
        path.write_text(path.read_text() + f"validate_every = {max(1, steps // VALIDATIONS)}\n")
        paths.append(path)
    return paths


def absolute_folders(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The table [data] with its folders of pictures as absolute paths."""
    return data | {key: str((folder / data[key]).resolve()) for key in ("train", "validation")}


def recipe_text(base: dict[str, Any], arm: dict[str, Any], run: StudyRun) -> str:
    """A config: the base's, with the arm's branches and settings and the run's length and seed."""
    network = base["network"] | {"branches": arm["branches"]}
    training = base["training"] | arm.get("training", {}) | {"pixels": run.pixels}
    training.pop("validate_every", None)
    tables = {"network": network, "data": base["data"], "training": training}
    lines = [f"name = {json.dumps(run.name)}", f"seed = {run.seed}"]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def collect(runs: Path, logs: Path) -> None:
    """Copy the logs of trained runs of the study."""
    logs.mkdir(parents=True, exist_ok=True)
    for run in runs_of(read_study()):
        if (runs / run.name / f"{run.name}.safetensors").exists():
            shutil.copyfile(runs / run.name / "log.jsonl", logs / f"{run.name}.jsonl")


def curve_of(log: Path, pixels: float, freezes_at: float, time: ArmTime) -> Curve:
    """The validations in the log of a run of `pixels`, against the processor time of their pixels."""
    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    validations = [record for record in records if "psnr" in record]
    last = validations[-1]["step"]
    minutes = tuple(time.minutes(pixels * record["step"] / last, freezes_at) for record in validations)
    return Curve(minutes, tuple(record["psnr"] for record in validations))


def curves_of(logs: Path, pixels: str) -> dict[str, dict[int, Curve]]:
    """The curves of a round, by arm and seed, of the runs whose logs are there."""
    from onebranch.training.config import Training, parse_pixels

    study, total = read_study(), float(parse_pixels(pixels))
    curves: dict[str, dict[int, Curve]] = {}
    times = read_times(logs).get(pixels, {"arms": {}})["arms"]
    for run in runs_of(study):
        log = logs / f"{run.name}.jsonl"
        if run.pixels != pixels or not log.exists():
            continue
        if run.arm not in times:
            sys.exit(
                f"{logs / TIMES.name} has no time of {run.arm} for {pixels}; measure it:"
                f" python scripts/study_times.py --pixels {pixels}"
            )
        settings = study["training"] | study["arms"][run.arm].get("training", {})
        frozen = settings.get("bn_freeze_fraction", Training().bn_freeze_fraction)
        curve = curve_of(log, total, total * (1 - frozen), ArmTime(**times[run.arm]))
        curves.setdefault(run.arm, {})[run.seed] = curve
    return curves


def read_times(logs: Path) -> dict[str, Any]:
    """The measured times by the pixels of a round; empty where nothing is measured."""
    path = logs / TIMES.name
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def bootstrap(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean, by resampling the values with replacement (percentile method)."""
    rng = np.random.default_rng(0)
    samples = rng.choice(np.asarray(values), (RESAMPLINGS, len(values))).mean(1)
    low, high = np.percentile(samples, [2.5, 97.5])
    return float(low), float(high)


def table_of(curves: dict[str, dict[int, Curve]]) -> list[str]:
    """The table of a round in Markdown: the last PSNR, and differences from the arm's baseline."""
    baselines = {arm: settings.get("baseline", "plain") for arm, settings in read_study()["arms"].items()}
    columns = (
        "branches",
        "seeds",
        "PSNR",
        "core-minutes",
        "compared with",
        "difference in dB at equal pixels",
        "at equal time",
    )
    lines = [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    for arm, by_seed in curves.items():
        last = {seed: curve.psnr[-1] for seed, curve in by_seed.items()}
        minutes = {seed: curve.minutes[-1] for seed, curve in by_seed.items()}
        baseline = curves.get(baselines[arm], {})
        shared = sorted(set(by_seed) & set(baseline)) if arm != baselines[arm] else []
        pixels = [last[seed] - baseline[seed].psnr[-1] for seed in shared]
        time = [difference_at_equal_time(by_seed[seed], baseline[seed]) for seed in shared]
        lines.append(
            f"| {arm} | {len(last)} | {np.mean(list(last.values())):.3f} |"
            f" {np.mean(list(minutes.values())):.1f} | {baselines[arm] if shared else '–'} |"
            f" {interval_text(pixels)} | {interval_text(time)} |"
        )
    return lines


def difference_at_equal_time(curve: Curve, baseline: Curve) -> float:
    """The PSNR minus the baseline's, after the processor time of the shorter of both runs."""
    minutes = min(curve.minutes[-1], baseline.minutes[-1])
    return curve.at(minutes) - baseline.at(minutes)


def interval_text(differences: Iterable[float]) -> str:
    """Mean and 95 % interval of differences in dB; a dash where there are none."""
    values = list(differences)
    if not values:
        return "–"
    if len(values) == 1:
        return f"{values[0]:+.3f} (one seed)"
    low, high = bootstrap(values)
    return f"{np.mean(values):+.3f} [{low:+.3f}, {high:+.3f}]"


def report(logs: Path, page: Path, plot: Path) -> None:
    """Draw the plot and write the tables between the page's two markers."""
    lines: list[str] = []
    rounds = [part["pixels"] for part in read_study()["rounds"]]
    measured = {pixels: curves for pixels in rounds if (curves := curves_of(logs, pixels))}
    for pixels, curves in measured.items():
        times = read_times(logs)[pixels]
        source = f"Processor time: {times['processor']}, one core, median of {times['rounds']} rounds."
        lines += [f"### {pixels} pixels", "", *table_of(curves), "", source, ""]
    if measured:
        draw(measured, plot)
        lines += [f"![PSNR against processor time, by branches](pictures/{plot.name})", ""]
    lines = lines or [NO_RUNS, ""]
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"{END}{after}", encoding="utf-8")


def draw(measured: dict[str, dict[str, dict[int, Curve]]], path: Path) -> None:
    """PSNR against core-minutes, the mean of the seeds with a band from the lowest to the highest."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(
        1, len(measured), figsize=(6.5 * len(measured), 4.5), layout="constrained", squeeze=False
    )
    styles = line_styles(read_study()["arms"])
    for axis, (pixels, curves) in zip(axes[0], measured.items(), strict=True):
        for arm, by_seed in curves.items():
            minutes, psnr = together(by_seed.values())
            colour, dashes = styles[arm]
            axis.plot(minutes, psnr.mean(0), color=colour, linestyle=dashes, label=arm, linewidth=1.4)
            axis.fill_between(minutes, psnr.min(0), psnr.max(0), color=colour, alpha=0.12, linewidth=0)
        axis.set(
            title=f"{pixels} pixels", xlabel="core-minutes", ylabel="validation PSNR in dB", xscale="log"
        )
        best = max(max(curve.psnr) for by_seed in curves.values() for curve in by_seed.values())
        axis.set_ylim(best - SHOWN_DECIBELS, best + 0.1)
        axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_locator(ticker.NullLocator())
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def line_styles(arms: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """A colour and dashes for each arm: one colour for the same branches, other dashes for other settings."""
    seen: list[list[Any]] = []
    styles = {}
    for arm, settings in arms.items():
        same = next((each for each in seen if each[0] == settings["branches"]), None)
        if same is None:
            seen.append(same := [settings["branches"]])
        same.append(arm)
        styles[arm] = f"C{seen.index(same)}", DASHES[(len(same) - 2) % len(DASHES)]
    return styles


def together(curves: Iterable[Curve]) -> tuple[np.ndarray, np.ndarray]:
    """Common times in minutes (T), and the PSNR of every curve at them (curves, T)."""
    listed = list(curves)
    first, last = max(c.minutes[0] for c in listed), min(c.minutes[-1] for c in listed)
    minutes = np.geomspace(first, max(last, first), 50)
    return minutes, np.array([np.interp(minutes, c.minutes, c.psnr) for c in listed])


if __name__ == "__main__":
    main()
