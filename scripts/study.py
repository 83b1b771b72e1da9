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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

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

EQUAL_TIME_TOLERANCE = 0.02
"""Runs of equal pixels count as runs of equal time if the times per pixel differ by less than this share."""

T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""97.5 % quantiles of Student's t distribution with 1, 2, ... degrees of freedom."""

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
    equal_time: bool = False
    """Whether the run gets the processor time of the baseline's run of `pixels`, instead of its pixels."""

    @property
    def name(self) -> str:
        """The name of the run's config, folder and log."""
        length = f"{self.pixels}-equal-time" if self.equal_time else self.pixels
        return f"study-{self.arm}-{length}-{self.seed}"


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


@dataclass(frozen=True)
class Arm:
    """The finished runs of an arm in a round, by seed."""

    time: ArmTime
    curves: dict[int, Curve]
    equal_time: dict[int, float]
    """The last PSNR of the runs that have the processor time of the baseline's runs."""


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


def base_recipe(study: dict[str, Any]) -> dict[str, Any]:
    """The tables of the recipe that all runs share, with the study's own settings of [training]."""
    base = tomllib.loads((STUDY.parent / f"{study['base']}.toml").read_text(encoding="utf-8"))
    base["training"] |= study["training"]
    return base


def runs_of(study: dict[str, Any]) -> list[StudyRun]:
    """All runs, the short ones first; within a round seed by seed, so that arms can be compared early."""
    return [
        StudyRun(arm, part["pixels"], seed, equal_time)
        for part in study["rounds"]
        for seed in part["seeds"]
        for key, equal_time in (("arms", False), ("equal_time_arms", True))
        for arm in part.get(key, ())
    ]


def baseline_of(study: dict[str, Any], arm: str) -> str:
    """The arm that an arm is compared with."""
    return str(study["arms"][arm].get("baseline", "plain"))


def pixels_of(study: dict[str, Any], run: StudyRun, times: dict[str, Any]) -> int | None:
    """The pixels of a run; None for a run of equal time whose arm or baseline has no measured time.

    Example: at 1.5 s/Mpx, an arm gets 100 M pixels for the 150 M of its baseline at 1 s/Mpx.
    """
    from onebranch.training.config import parse_pixels

    pixels = parse_pixels(run.pixels)
    if not run.equal_time:
        return pixels
    arms = (run.arm, baseline_of(study, run.arm))
    measured = times.get(run.pixels, {"arms": {}})["arms"]
    if not measured.keys() >= set(arms):
        return None
    minutes, baseline_minutes = (
        ArmTime(**measured[arm]).minutes(pixels, pixels * (1 - freeze_fraction(study, arm))) for arm in arms
    )
    return round(pixels * baseline_minutes / minutes)


def freeze_fraction(study: dict[str, Any], arm: str) -> float:
    """The last fraction of an arm's runs in which batch normalization is frozen."""
    from onebranch.training.config import Training

    settings = base_recipe(study)["training"] | study["arms"][arm].get("training", {})
    return float(settings.get("bn_freeze_fraction", Training().bn_freeze_fraction))


def write_recipes(folder: Path) -> list[Path]:
    """Write a config for every run into `folder`; returns their paths in the order of training.

    Runs of equal time are left out until the time of their arms is measured.
    """
    from onebranch.training import config as configs

    study = read_study()
    base = base_recipe(study)
    base["data"] = absolute_folders(base["data"], STUDY.parent)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    times = read_times(LOGS)
    for run in runs_of(study):
        if (pixels := pixels_of(study, run, times)) is None:
            continue
        path = folder / f"{run.name}.toml"
        path.write_text(recipe_text(base, study["arms"][run.arm], run, pixels), encoding="utf-8")
        steps = configs.read(path).training.steps
        path.write_text(path.read_text() + f"validate_every = {max(1, steps // VALIDATIONS)}\n")
        paths.append(path)
    return paths


def absolute_folders(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The table [data] with its folders of pictures as absolute paths."""
    return data | {key: str((folder / data[key]).resolve()) for key in ("train", "validation")}


def recipe_text(base: dict[str, Any], arm: dict[str, Any], run: StudyRun, pixels: int) -> str:
    """A config: the base's, with the arm's branches and settings and the run's length and seed."""
    network = base["network"] | {"branches": arm["branches"]}
    training = base["training"] | arm.get("training", {}) | {"pixels": f"{pixels / 1e6:g}M"}
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


def curve_of(records: Sequence[dict[str, Any]], pixels: float, freezes_at: float, time: ArmTime) -> Curve:
    """The validations in the log of a run of `pixels`, against the processor time of their pixels."""
    validations = [record for record in records if "psnr" in record]
    last = validations[-1]["step"]
    minutes = tuple(time.minutes(pixels * record["step"] / last, freezes_at) for record in validations)
    return Curve(minutes, tuple(record["psnr"] for record in validations))


def arms_of(logs: Path, pixels: str) -> dict[str, Arm]:
    """The arms of a round with the runs whose logs are there."""
    from onebranch.training.log import read

    study, times, arms = read_study(), read_times(logs), dict[str, Arm]()
    measured = times.get(pixels, {"arms": {}})["arms"]
    for run in runs_of(study):
        log = logs / f"{run.name}.jsonl"
        if run.pixels != pixels or not log.exists():
            continue
        if run.arm not in measured:
            refuse_unmeasured(logs, run.arm, pixels)
        arm = arms.setdefault(run.arm, Arm(ArmTime(**measured[run.arm]), {}, {}))
        if (total := pixels_of(study, run, times)) is None:
            refuse_unmeasured(logs, baseline_of(study, run.arm), pixels)
        records = read(log)
        check_length(log, records, total)
        curve = curve_of(records, total, total * (1 - freeze_fraction(study, run.arm)), arm.time)
        if run.equal_time:
            arm.equal_time[run.seed] = curve.psnr[-1]
        else:
            arm.curves[run.seed] = curve
    for name, arm in arms.items():
        if _has_equal_time(study, name, pixels, times):
            for seed, curve in arm.curves.items():
                arm.equal_time.setdefault(seed, curve.psnr[-1])
    return {name: arm for name, arm in arms.items() if arm.curves}


def refuse_unmeasured(logs: Path, arm: str, pixels: str) -> NoReturn:
    """Exit with the command that measures the time of an arm."""
    sys.exit(
        f"{logs / TIMES.name} has no time of {arm} for {pixels}; measure it:"
        f" python scripts/study_times.py --pixels {pixels}"
    )


def check_length(log: Path, records: Sequence[dict[str, Any]], pixels: int) -> None:
    """Exit if the run saw another number of pixels, as after a new measurement of the times."""
    seen = [1e9 * record["gigapixels"] for record in records if "gigapixels" in record]
    if seen and abs(seen[-1] / pixels - 1) > EQUAL_TIME_TOLERANCE:
        sys.exit(
            f"{log} is of a run of {seen[-1] / 1e6:.0f} M pixels, not {pixels / 1e6:.0f} M; delete it, and"
            " train the run again"
        )


def _has_equal_time(study: dict[str, Any], arm: str, pixels: str, times: dict[str, Any]) -> bool:
    """Whether runs of equal pixels have nearly equal processor time too, so none of equal time is needed."""
    run = StudyRun(arm, pixels, 0, equal_time=True)
    full, equal = pixels_of(study, replace(run, equal_time=False), times), pixels_of(study, run, times)
    return full is not None and equal is not None and abs(equal / full - 1) <= EQUAL_TIME_TOLERANCE


def read_times(logs: Path) -> dict[str, Any]:
    """The measured times by the pixels of a round; empty where nothing is measured."""
    path = logs / TIMES.name
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def confidence_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean of 2 to 10 values, by Student's t distribution."""
    mean, error = np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))
    half = T_QUANTILES[len(values) - 2] * error
    return float(mean - half), float(mean + half)


def table_of(arms: dict[str, Arm]) -> list[str]:
    """The table of a round in Markdown: the last PSNR, and differences from the arm's baseline."""
    study = read_study()
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
    for name, arm in arms.items():
        last = {seed: curve.psnr[-1] for seed, curve in arm.curves.items()}
        minutes = np.mean([curve.minutes[-1] for curve in arm.curves.values()])
        baseline_name = baseline_of(study, name)
        baseline = arms[baseline_name].curves if baseline_name in arms and baseline_name != name else {}
        pixels = _differences(last, baseline)
        lines.append(
            f"| {name} | {len(last)} | {np.mean(list(last.values())):.3f} | {minutes:.1f} |"
            f" {baseline_name if pixels else '–'} | {interval_text(pixels)} |"
            f" {interval_text(_differences(arm.equal_time, baseline))} |"
        )
    return lines


def _differences(psnr: dict[int, float], baseline: dict[int, Curve]) -> list[float]:
    """PSNR minus the last PSNR of the baseline, of the seeds that both have."""
    return [psnr[seed] - baseline[seed].psnr[-1] for seed in sorted(psnr.keys() & baseline.keys())]


def interval_text(differences: Iterable[float]) -> str:
    """Mean and 95 % interval of differences in dB; a dash where there are none."""
    values = list(differences)
    if not values:
        return "–"
    if len(values) == 1:
        return f"{values[0]:+.3f} (one seed)"
    low, high = confidence_interval(values)
    return f"{np.mean(values):+.3f} [{low:+.3f}, {high:+.3f}]"


def report(logs: Path, page: Path, plot: Path) -> None:
    """Draw the plot and write the tables between the page's two markers."""
    lines: list[str] = []
    rounds = [part["pixels"] for part in read_study()["rounds"]]
    measured = {pixels: arms for pixels in rounds if (arms := arms_of(logs, pixels))}
    for pixels, arms in measured.items():
        times = read_times(logs)[pixels]
        source = f"Processor time: {times['processor']}, one core, median of {times['rounds']} rounds."
        lines += [f"### {pixels} pixels", "", *table_of(arms), "", source, ""]
    if measured:
        draw(measured, plot)
        lines += [f"![PSNR against processor time, by branches](pictures/{plot.name})", ""]
    lines = lines or [NO_RUNS, ""]
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"{END}{after}", encoding="utf-8")


def draw(measured: dict[str, dict[str, Arm]], path: Path) -> None:
    """PSNR against core-minutes, the mean of the seeds with a band from the lowest to the highest."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(
        1, len(measured), figsize=(6.5 * len(measured), 4.5), layout="constrained", squeeze=False
    )
    styles = line_styles(read_study()["arms"])
    for axis, (pixels, arms) in zip(axes[0], measured.items(), strict=True):
        for name, arm in arms.items():
            minutes, psnr = on_common_times(arm.curves.values())
            colour, dashes = styles[name]
            axis.plot(minutes, psnr.mean(0), color=colour, linestyle=dashes, label=name, linewidth=1.4)
            axis.fill_between(minutes, psnr.min(0), psnr.max(0), color=colour, alpha=0.12, linewidth=0)
        axis.set(
            title=f"{pixels} pixels", xlabel="core-minutes", ylabel="validation PSNR in dB", xscale="log"
        )
        best = max(max(curve.psnr) for arm in arms.values() for curve in arm.curves.values())
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


def on_common_times(curves: Iterable[Curve]) -> tuple[np.ndarray, np.ndarray]:
    """Common times in minutes (T), and the PSNR of every curve at them (curves, T)."""
    listed = list(curves)
    first, last = max(c.minutes[0] for c in listed), min(c.minutes[-1] for c in listed)
    minutes = np.geomspace(first, max(last, first), 50)
    return minutes, np.array([np.interp(minutes, c.minutes, c.psnr) for c in listed])


if __name__ == "__main__":
    main()
