"""Ship a model in 8 bits: quantize a shipped model, score it in integers, and put the file where it belongs.

    python scripts/ship_quantized.py NAME [--calibrate FOLDER] [--pictures N] [--data FOLDER] [--trained FILE]

With --trained, the weights are those of a model from quantization-aware training that started from the
shipped NAME-int8, whose scales are kept; the loss is measured against NAME all the same.

Reads the shipped model NAME and writes src/onebranch/data/models/NAME-int8.safetensors with its scores and,
in its record of quantization, its loss on the first of its task's sets whose name is in `LOSS`.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from onebranch import merge, save
from onebranch.model.catalogue import MODELS_FOLDER, load
from onebranch.model.file import Model, read
from onebranch.quantization.calibration import DEFAULT_PICTURES, crops_for
from onebranch.quantization.layers import quantize, quantize_with_scales
from onebranch.quantization.loss import integer_scores, loss_on_folder, with_loss
from ship_model import DEGRADED_SETS, SCORES, degraded_entry, entry_of

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"

LOSS: dict[str, dict[str, Any]] = {
    "upscale": {"data": "set14"},
    "denoise": {"data": "kodak24", "sigma": 25.0},
    "downscale": {"data": "set14", "then": "photo-x2"},
}
"""The pictures and options on which each task's loss is measured."""


def main() -> None:
    """Do it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--calibrate", type=Path, default=SHARED / "train")
    parser.add_argument("--pictures", type=int, default=DEFAULT_PICTURES)
    parser.add_argument("--data", type=Path, default=SHARED / "val")
    parser.add_argument("--trained", type=Path)
    arguments = parser.parse_args()
    model = load(arguments.name)
    if arguments.trained:
        trained, _ = merge(read(arguments.trained))
        quantized = quantize_with_scales(trained, load(f"{arguments.name}-int8"))
    else:
        quantized = quantize(model, crops_for(model, arguments.calibrate, arguments.pictures), print)
    quantized = replace(quantized, name=model.name)
    options = LOSS[model.spec.task]
    rest = {key: value for key, value in options.items() if key != "data"}
    loss = loss_on_folder(model, quantized, arguments.data / options["data"], **rest)
    print(loss.summary())
    quantized = with_loss(quantized, loss, arguments.calibrate.resolve().name)
    quantized = replace(quantized, scores=scores(quantized, arguments.data))
    save(quantized, MODELS_FOLDER / f"{arguments.name}-int8.safetensors", overwrite=True)


def scores(model: Model, data: Path) -> dict[str, Any]:
    """Mean scores in integers on the task's sets, and the baseline's, by what was measured."""
    entries = {}
    for options in SCORES[model.spec.task]:
        rest = {key: value for key, value in options.items() if key != "data"}
        name = " ".join([options["data"], *(f"{key} {value}" for key, value in rest.items())])
        entries[name] = entry_of(integer_scores(model, data / options["data"], **rest))
        print(name, entries[name])
    if model.name.startswith("restore"):
        entries |= {f"degraded {name}": degraded_entry(model, data / name, "int8") for name in DEGRADED_SETS}
    return entries


if __name__ == "__main__":
    main()
