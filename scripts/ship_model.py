"""Ship a trained model: merge it with its proof, score it, and install its file, log and plot.

    python scripts/ship_model.py NAME [--run RUN] [--runs FOLDER] [--branches] [--data FOLDER]
    python scripts/ship_model.py NAME --measure-again

Reads FOLDER/RUN (by default the run NAME of `make ladder`; its checkpoint, if it is not trained to the end),
writes the merged model with its scores to
src/onebranch/data/models/NAME.safetensors, and the log and its plot into models. With --branches the trained
form is shipped too, as NAME-branches. With --measure-again, only the scores of the shipped NAME are measured
and written again: those of shrink-x2 depend on photo-x2, which enlarges its results.
"""

import argparse
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from onebranch import evaluate, merge, save
from onebranch.degraded_evaluation import evaluate_degraded
from onebranch.evaluation import Evaluation
from onebranch.model.catalogue import MODELS_FOLDER, find, load
from onebranch.model.file import Model, read
from onebranch.training import log as logs
from queue_folder import queue_folder

ROOT = Path(__file__).resolve().parent.parent

SCORES: dict[str, tuple[dict[str, Any], ...]] = {
    "upscale": ({"data": "set5"}, {"data": "set14"}, {"data": "kodak24"}),
    "denoise": tuple({"data": "kodak24", "sigma": sigma} for sigma in (15.0, 25.0, 50.0)),
    "downscale": (
        {"data": "set14"},
        {"data": "set14", "then": "photo-x2"},
        {"data": "set5", "then": "photo-x2"},
    ),
}
"""The pictures and options on which each task is measured."""

DEGRADED_SETS = ("kodak24",)
"""Further pictures on which the models for real photographs are measured."""


def main() -> None:
    """Merge, score, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--run", help="the last run that led to it")
    parser.add_argument("--runs", type=Path, default=queue_folder() / "runs", help="the folder of the runs")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "val")
    parser.add_argument("--branches", action="store_true")
    parser.add_argument("--measure-again", action="store_true")
    arguments = parser.parse_args()
    if arguments.measure_again:
        shipped = load(arguments.name)
        save(replace(shipped, scores=measured(shipped, arguments.data)), find(arguments.name), overwrite=True)
        return
    name = arguments.run or arguments.name
    run = arguments.runs / name
    finished, checkpoint = run / f"{name}.safetensors", run / "checkpoint.safetensors"
    trained = replace(read(finished if finished.exists() else checkpoint), name=name)
    merged, report = merge(trained)
    print(report.summary())
    scores = measured(merged, arguments.data)
    MODELS_FOLDER.mkdir(parents=True, exist_ok=True)
    save(replace(merged, scores=scores), MODELS_FOLDER / f"{arguments.name}.safetensors", overwrite=True)
    if arguments.branches:
        save(trained, MODELS_FOLDER / f"{arguments.name}-branches.safetensors", overwrite=True)
    shutil.copy(run / "log.jsonl", ROOT / "models" / f"{name}.jsonl")
    logs.plot(logs.read(run / "log.jsonl"), name, ROOT / "models" / f"{name}.png")


def measured(model: Model, data: Path) -> dict[str, Any]:
    """Mean scores on the task's sets, and the baseline's, by what was measured."""
    scores: dict[str, Any] = {}
    for options in SCORES[model.spec.task]:
        rest = {key: value for key, value in options.items() if key != "data"}
        evaluation = evaluate(model, data / options["data"], **rest)
        name = " ".join([options["data"], *(f"{key} {value}" for key, value in rest.items())])
        scores[name] = entry_of(evaluation)
        print(name, scores[name])
    if model.name.startswith("restore"):
        scores |= {f"degraded {name}": degraded_entry(model, data / name) for name in DEGRADED_SETS}
    return scores


def degraded_entry(model: Model, folder: Path, precision: str = "fp32") -> dict[str, Any]:
    """Mean PSNR over all kinds of degraded inputs for the model file, and that of Lanczos."""
    evaluation = evaluate_degraded(model, folder, precision=precision)
    pictures = [picture for one in evaluation.classes for picture in one.pictures]
    psnr, lanczos = (fmean(getattr(p, key) for p in pictures) for key in ("model", "lanczos"))
    entry = {
        "method": "reduced by three resamplers, then clean, JPEG 90, 70, 40, noise 5, 15",
        "psnr_y": round(psnr, 3),
        "smallest_gain": round(evaluation.worst_gain, 3),
        "gains": {f"{c.resampler}, {c.treatment}": round(c.gain, 3) for c in evaluation.classes},
        "baseline": {"method": "Lanczos", "psnr_y": round(lanczos, 3)},
    }
    print(folder.name, entry)
    return entry


def entry_of(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation's means for the model file."""
    mean = evaluation.mean
    entry = {"method": evaluation.method, **rounded(asdict(mean.scores))}
    if mean.baseline:
        entry["baseline"] = {"method": evaluation.baseline, **rounded(asdict(mean.baseline))}
    return entry


def rounded(values: dict[str, float]) -> dict[str, float]:
    """PSNR to 3 places, SSIM to 4."""
    return {key: round(value, 4 if key.startswith("ssim") else 3) for key, value in values.items()}


if __name__ == "__main__":
    main()
