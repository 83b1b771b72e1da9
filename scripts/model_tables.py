"""Write the tables of the shipped models into README.md and docs/models.md.

    python scripts/model_tables.py

Scores are those that the model files carry, the same as `onebranch models --json`; pixels and hours are in
the logs of the training runs (`models/`). A test compares the pages with the files.
"""

from pathlib import Path
from statistics import fmean

from marked_tables import with_tables
from onebranch.degraded_evaluation import RESAMPLERS, TREATMENTS
from onebranch.model.catalogue import CATALOGUE
from onebranch.model.file import Model, read
from onebranch.model.scores import psnr_key
from onebranch.spec.network import parameters
from onebranch.training.log import read as read_log

ROOT = Path(__file__).resolve().parent.parent

README_ROWS = {
    "restore-x2": ("upscale ×2, Kodak24 degraded", "set14", "degraded kodak24"),
    "restore-luma-x2": ("upscale ×2, Kodak24 degraded", "set14", "degraded kodak24"),
    "photo-x2": ("upscale ×2", "set14", "kodak24"),
    "restore-x4": ("upscale ×4, Kodak24 degraded", "set14", "degraded kodak24"),
    "photo-x4": ("upscale ×4", "set14", "kodak24"),
    "denoise": ("remove noise, σ = 25", "", "kodak24 sigma 25.0"),
}
"""Model -> what it does, and the names of its scores on Set14 and on Kodak24."""

RUNS = {
    "restore-x2": (
        "restore-luma-x2, made RGB",
        ("restore-rgb-x2-first", "restore-rgb-x2-second", "restore-rgb-x2-third"),
    ),
    "photo-x2": ("random weights", ("photo-x2",)),
    "restore-luma-x2": (
        "random weights",
        tuple(
            f"restore-luma-x2-{stage}"
            for stage in ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
        ),
    ),
    "restore-x4": ("restore-luma-x2", ("restore-x4-first",)),
    "photo-x4": ("photo-x2", ("photo-x4", "photo-x4-bf16")),
    "denoise": ("random weights", ("denoise", "denoise-second", "denoise-third")),
    "shrink-x2": ("random weights", ("shrink-x2",)),
}
"""Model -> what its first run started from, and its runs in `models/`, in order."""

UNLOGGED_GIGAPIXELS = {"photo-x4": 0.85, "denoise": 0.44, "shrink-x2": 0.12}
"""Pixels of the first runs, whose logs do not hold them. That of photo-x4 has a second part without a log."""

DATA_SETS = {"set5": "Set5", "set14": "Set14", "kodak24": "Kodak24", "cid22_val": "CID22 validation"}


def readme_table(models: dict[str, Model]) -> str:
    """The README's six rows: task, parameters, and mean PSNR with its baseline in brackets."""
    lines = ["| model | task | parameters | Set14 | Kodak24 |", "| --- | --- | --- | --- | --- |"]
    for name, (task, *sets) in README_ROWS.items():
        model = models[name]
        scores = [_with_baseline(model, score) if score else "" for score in sets]
        lines.append(f"| `{name}` | {task} | {parameters(model.spec):,} | {' | '.join(scores)} |")
    return "\n".join(lines)


def full_table(models: dict[str, Model]) -> str:
    """Every score of every model: PSNR and SSIM, and the baseline's PSNR."""
    lines = ["| model | measured on | PSNR | baseline | SSIM (luma) |", "| --- | --- | --: | --- | --: |"]
    for name, model in models.items():
        for score, values in model.scores.items():
            where = " ".join(DATA_SETS.get(word, word) for word in score.replace(".0", "").split(" "))
            ssim = f"{values['ssim_y']:.4f}" if "ssim_y" in values else ""
            lines.append(
                f"| `{name}` | {where} | {_psnr(model, score):.2f} | {_baseline(model, score)} | {ssim} |"
            )
    return "\n".join(lines)


def degraded_table(models: dict[str, Model]) -> str:
    """Gains over Lanczos on degraded Kodak24: a row for every kind of input, a column for every model."""
    scores = {
        name: model.scores["degraded kodak24"]
        for name, model in models.items()
        if "degraded kodak24" in model.scores and not name.endswith("-int8")
    }
    kinds = [f"{resampler}, {treatment}" for resampler in RESAMPLERS for treatment in TREATMENTS]
    rows = [[kind, *(score["gains"][kind] for score in scores.values())] for kind in kinds]
    rows += [
        ["mean", *(fmean(score["gains"].values()) for score in scores.values())],
        ["smallest gain of a picture", *(score["smallest_gain"] for score in scores.values())],
    ]
    lines = [f"| input | {' | '.join(f'`{name}`' for name in scores)} |", "| --- |" + " --: |" * len(scores)]
    lines += [_signed_row(*row) for row in rows]
    return "\n".join(lines)


def _signed_row(heading: str, *values: float) -> str:
    return f"| {heading} | {' | '.join(f'{value:+.2f}' for value in values)} |"


def training_table(models: dict[str, Model]) -> str:
    """What every model saw in training: low-resolution pixels, hours of one core, and its loss in 8 bits."""
    lines = [
        "| model | parameters | started from | runs | G pixels | core-hours | loss in 8 bits, dB |",
        "| --- | --: | --- | --- | --: | --: | --: |",
    ]
    for name, (start, runs) in RUNS.items():
        logs = [_last_record(run) for run in runs]
        pixels = sum(
            log.get("gigapixels") or UNLOGGED_GIGAPIXELS[run] for run, log in zip(runs, logs, strict=True)
        )
        seconds = [log.get("core_seconds") for log in logs]
        hours = sum(second or 0 for second in seconds) / 3600
        known = f"{hours:.1f}" if all(seconds) else f"more than {hours:.1f}" if any(seconds) else "not logged"
        loss = (models[f"{name}-int8"].quantization or {})["loss"]["loss_db"]
        lines.append(
            f"| `{name}` | {parameters(models[name].spec):,} | {start} | {_ends(runs)} | {pixels:.2f} |"
            f" {known} | {loss:.3f} |"
        )
    return "\n".join(lines)


def _ends(runs: tuple[str, ...]) -> str:
    """The names of the first and the last run."""
    return runs[0] if len(runs) == 1 else f"{runs[0]} … {runs[-1]}"


def _last_record(run: str) -> dict[str, float]:
    """The last training record in the log of a run."""
    return [record for record in read_log(ROOT / "models" / f"{run}.jsonl") if "loss" in record][-1]


def _psnr(model: Model, score: str) -> float:
    """Mean PSNR in dB."""
    return float(model.scores[score][psnr_key(model.spec.task, model.scores[score])])


def _baseline(model: Model, score: str) -> str:
    """The name and PSNR of what the model is compared with, such as 'bicubic 30.24'; '' without one."""
    baseline = model.scores[score].get("baseline")
    if baseline is None:
        return ""
    return f"{baseline['method']} {baseline[psnr_key(model.spec.task, baseline)]:.2f}"


def _with_baseline(model: Model, score: str) -> str:
    return f"{_psnr(model, score):.2f} ({_baseline(model, score)})"


def shipped() -> dict[str, Model]:
    """The shipped models that carry scores."""
    models = {name: read(entry.path) for name, entry in CATALOGUE.items() if entry.path.exists()}
    return {name: model for name, model in models.items() if model.scores}


def documents() -> dict[Path, str]:
    """Each document's path and its text with the tables of now."""
    models = shipped()
    tables = {
        ROOT / "README.md": {"models": readme_table(models)},
        ROOT / "docs" / "models.md": {
            "degraded": degraded_table(models),
            "scores": full_table(models),
            "training": training_table(models),
        },
    }
    return {path: with_tables(path, content) for path, content in tables.items()}


def main() -> None:
    """Replace the tables in both documents."""
    for path, text in documents().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
