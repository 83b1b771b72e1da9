"""Processor time per pixel of the arms of the study, measured in turn on one machine.

    python scripts/study_times.py [--pixels 160M] [--rounds 3]

The processor time in a log depends on the machine and on what else ran there, so times of different machines
cannot be compared. One measurement serves all: every arm trains `STEPS` steps after a hundred to
warm up, round after round, and the median counts. Written to models/study/times.json. Run it while nothing
else runs; a round takes half a minute for each arm, and minutes for those with batch normalization.
"""

import argparse
import json
import tempfile
from pathlib import Path
from statistics import median

import msgspec

import study
from onebranch.nn.network import Network
from onebranch.runtime.processor import processor_name
from onebranch.training import config as configs
from onebranch.training.computation import STEPS_WORTH_COMPILING
from onebranch.training.config import Config
from onebranch.training.log import read
from onebranch.training.loop import RECORD_EVERY, train

STEPS = 4 * RECORD_EVERY
"""Steps of a measurement."""


def main() -> None:
    """Measure all arms of one round of the study, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pixels", default="160M", help="pixels of the runs, as in models/study.toml")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    times = json.loads(study.TIMES.read_text()) if study.TIMES.exists() else {}
    measured = {arm: vars(time) for arm, time in measure(arguments.pixels, arguments.rounds).items()}
    times[arguments.pixels] = {"processor": processor_name(), "rounds": arguments.rounds, "arms": measured}
    study.TIMES.write_text(json.dumps(times, indent=2) + "\n", encoding="utf-8")


def measure(pixels: str, rounds: int) -> dict[str, study.ArmTime]:
    """Core-seconds per million pixels of every arm with a log, the median of the rounds.

    Arms that differ in nothing but when batch normalization is frozen are measured once.
    """
    seconds: dict[tuple[str, bool], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        recipes = recipes_by_arm(pixels, Path(folder))
        steps = {arm: step_description(recipe) for arm, recipe in recipes.items()}
        distinct = {steps[arm]: recipe for arm, recipe in recipes.items()}
        for _ in range(rounds):
            for name, recipe in distinct.items():
                states = (False, True) if Network(recipe.spec).batch_norms() else (False,)
                for frozen in states:
                    value = seconds_per_megapixel(recipe, frozen, Path(folder) / "run")
                    seconds.setdefault((name, frozen), []).append(value)
                    print(f"{name}{', BN frozen' if frozen else ''}: {value:.3f} s/Mpx", flush=True)
    medians = {key: round(median(values), 4) for key, values in seconds.items()}
    return {
        arm: study.ArmTime(medians[name, False], medians.get((name, True), medians[name, False]))
        for arm, name in steps.items()
    }


def recipes_by_arm(pixels: str, folder: Path) -> dict[str, Config]:
    """The config of one run of every arm that has a log."""
    study.write_recipes(folder)
    return {
        run.arm: configs.read(folder / f"{run.name}.toml")
        for run in study.runs_of(study.read_study())
        if run.pixels == pixels and not run.equal_time and (study.LOGS / f"{run.name}.jsonl").exists()
    }


def step_description(recipe: Config) -> str:
    """What determines the time of a step, as text: the branches of a block, and the optimizer."""
    branches = "; ".join(str(branch) for branch in recipe.spec.blocks[0].branches)
    return f"{branches} ({recipe.training.optimizer})"


def seconds_per_megapixel(recipe: Config, frozen: bool, folder: Path) -> float:
    """Processor time of `STEPS` steps with batch normalization frozen or not, per million pixels."""
    training = msgspec.structs.replace(
        recipe.training,
        steps=RECORD_EVERY + STEPS,
        validate_every=RECORD_EVERY + STEPS,
        bn_freeze_fraction=float(frozen),
        compile="always" if recipe.training.steps >= STEPS_WORTH_COMPILING else "never",
    )
    train(msgspec.structs.replace(recipe, training=training), folder, resumes=False, shown=False)
    records = [record for record in read(folder / "log.jsonl") if "loss" in record]
    pixels = STEPS * training.batch_size * recipe.data.patch_size**2
    return 1e6 * float(records[-1]["core_seconds"] - records[0]["core_seconds"]) / pixels


if __name__ == "__main__":
    main()
