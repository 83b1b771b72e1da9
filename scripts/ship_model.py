"""Ship a trained model: merge it with its proof, score it, and put file, log and plot where they belong.

    python scripts/ship_model.py NAME [--run RUN] [--branches] [--data MODELS_FOLDER]

Reads runs/RUN (by default runs/NAME), writes the merged model with its scores to
src/onebranch/data/models/NAME.safetensors, and the log and its plot into models. With --branches the trained
form is shipped too, as NAME-branches.
"""

import argparse
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from onebranch import evaluate, merge, save
from onebranch.evaluation import Evaluation
from onebranch.model.catalogue import MODELS_FOLDER
from onebranch.model.file import Model, read

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
"""What each task is measured on."""


def main() -> None:
    """Do it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--run", help="the last run that led to it")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "val")
    parser.add_argument("--branches", action="store_true")
    arguments = parser.parse_args()
    name = arguments.run or arguments.name
    run = ROOT / "runs" / name
    trained = read(run / f"{name}.safetensors")
    merged, report = merge(trained)
    print(report.summary())
    scores = measured(merged, arguments.data)
    MODELS_FOLDER.mkdir(parents=True, exist_ok=True)
    save(replace(merged, scores=scores), MODELS_FOLDER / f"{arguments.name}.safetensors", overwrite=True)
    if arguments.branches:
        save(trained, MODELS_FOLDER / f"{arguments.name}-branches.safetensors", overwrite=True)
    for kind in ("jsonl", "png"):
        shutil.copy(run / f"log.{kind}", ROOT / "models" / f"{name}.{kind}")


def measured(model: Model, data: Path) -> dict[str, Any]:
    """Mean scores on the task's sets, and the baseline's, by what was measured."""
    scores: dict[str, Any] = {}
    for options in SCORES[model.spec.task]:
        rest = {key: value for key, value in options.items() if key != "data"}
        found = evaluate(model, data / options["data"], **rest)
        name = " ".join([options["data"], *(f"{key} {value}" for key, value in rest.items())])
        scores[name] = entry_of(found)
        print(name, scores[name])
    return scores


def entry_of(found: Evaluation) -> dict[str, Any]:
    """An evaluation's means for the model file."""
    mean = found.mean
    entry = {"method": found.method, **rounded(asdict(mean.scores))}
    if mean.baseline:
        entry["baseline"] = {"method": found.baseline, **rounded(asdict(mean.baseline))}
    return entry


def rounded(values: dict[str, float]) -> dict[str, float]:
    """PSNR to 3 places, SSIM to 4."""
    return {key: round(value, 4 if key.startswith("ssim") else 3) for key, value in values.items()}


if __name__ == "__main__":
    main()
