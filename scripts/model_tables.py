"""Write the scores that the shipped model files carry into README.md and docs/benchmarks.md.

    python scripts/model_tables.py

The same scores as `onebranch models --json`. A test compares the pages with the files.
"""

import re
import sys
from pathlib import Path

from onebranch.model.catalogue import CATALOGUE
from onebranch.model.file import Model, read
from onebranch.model.scores import psnr_key
from onebranch.spec.network import parameters

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
    tables = {ROOT / "README.md": readme_table(models), ROOT / "docs" / "benchmarks.md": full_table(models)}
    return {path: _with_table(path, table) for path, table in tables.items()}


def _with_table(path: Path, table: str) -> str:
    text, count = re.subn(
        r"<!-- models -->\n.*?<!-- end -->",
        f"<!-- models -->\n{table}\n<!-- end -->",
        path.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    if count != 1:
        sys.exit(f"{path} has {count} places for the table of models, not one")
    return text


def main() -> None:
    """Replace the tables in both documents."""
    for path, text in documents().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
