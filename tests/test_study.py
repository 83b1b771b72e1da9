"""The study of branches: recipes differ only in what they compare; figures come from logs and times."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from onebranch.nn.network import Network
from onebranch.spec.network import parameters
from onebranch.training import config as configs

ROOT = Path(__file__).parent.parent


def script(name: str) -> ModuleType:
    """A script as a module, which other scripts can import by its name."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def study():
    """scripts/study.py."""
    return script("study")


@pytest.fixture(scope="module")
def times(study):
    """scripts/study_times.py."""
    return script("study_times")


def test_recipes_differ_in_branches_seed_and_length_alone(tmp_path, study):
    paths = study.write_recipes(tmp_path)
    runs = {run.name: run for run in study.runs_of(study.read_study())}
    assert {path.stem for path in paths} <= set(runs)
    assert all(run.equal_time for name, run in runs.items() if name not in {path.stem for path in paths})
    base = configs.read(ROOT / "models" / "photo-x2.toml")
    for path in paths:
        config = configs.read(path)
        assert config.name == path.stem
        assert (config.data.train, config.data.patch_size) == (
            str(Path(base.data.train).resolve()),
            base.data.patch_size,
        )
        for key in ("batch_size", "learning_rate", "loss", "ema_decay"):
            assert getattr(config.training, key) == getattr(base.training, key)
        assert config.training.optimizer == ("muon" if "-muon-" in path.stem else "adam")
        assert config.spec.head.width == base.spec.head.width and len(config.spec.blocks) == 4
        validations = config.training.steps // config.training.validate_every
        assert study.VALIDATIONS <= validations <= study.VALIDATIONS + 1
    assert parameters(configs.read(paths[0]).spec) == 10_100
    assert Network(configs.read(paths[0]).spec).batch_norms() == []


def write_log(folder: Path, name: str, psnr: list[float]) -> None:
    """A log with validations after equal parts of the run."""
    folder.mkdir(exist_ok=True)
    records = [{"step": 1, "loss": 0.5}, *({"step": n, "psnr": p} for n, p in enumerate(psnr, 1))]
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture
def logs(tmp_path):
    """Three seeds of the plain network, and of one that is 0.1 dB better and takes twice as long."""
    for seed in (1, 2, 3):
        start = 30 + seed
        write_log(tmp_path / "logs", f"study-plain-160M-{seed}", [start, start + 1, start + 2])
        write_log(tmp_path / "logs", f"study-sesr-160M-{seed}", [start + 0.1, start + 1.1, start + 2.1])
    one, two = 60 * 3 / 160, 60 * 6 / 160  # seconds per million pixels of runs of 3 and of 6 minutes
    seconds = {"plain": one, "sesr": two, "plain-muon": two, "four-branches-muon": two}
    arms = {arm: {"training": value, "frozen": value} for arm, value in seconds.items()}
    times = {"160M": {"processor": "Some Processor", "rounds": 3, "arms": arms}}
    (tmp_path / "logs" / "times.json").write_text(json.dumps(times))
    return tmp_path / "logs"


def test_differences_are_taken_seed_by_seed_at_equal_pixels_and_at_equal_time(study, logs):
    for seed in (1, 2):
        write_log(logs, f"study-sesr-160M-equal-time-{seed}", [30, 30 + seed + 1.5])
    lines = study.table_of(study.arms_of(logs, "160M"))
    plain, sesr = lines[2:]
    assert plain == "| plain | 3 | 34.000 | 3.0 | – | – | – |"
    assert sesr == "| sesr | 3 | 34.100 | 6.0 | plain | +0.100 [+0.100, +0.100] | -0.500 [-0.500, -0.500] |"


def test_a_run_of_equal_time_has_the_pixels_that_its_arm_sees_in_the_time_of_its_baseline(
    study, logs, monkeypatch, tmp_path
):
    content = json.loads((logs / "times.json").read_text())
    content["160M"]["arms"]["patent"] = {"training": 3.375, "frozen": 1.6875}  # 3 and 1.5 times that of plain
    monkeypatch.setattr(study, "LOGS", logs)
    names = ("sesr", "four-branches-muon", "patent", "ecb")
    assert not any("equal-time" in path.stem for path in _without_times(study, logs, tmp_path / "before"))
    (logs / "times.json").write_text(json.dumps(content))
    study.write_recipes(tmp_path)
    paths = {name: tmp_path / f"study-{name}-160M-equal-time-1.toml" for name in names}
    assert not paths.pop("ecb").exists()  # not measured
    lengths = {name: configs.read(path).training for name, path in paths.items()}
    step = 16 * 48**2
    assert lengths["sesr"].steps * step == pytest.approx(80e6, abs=step)
    assert lengths["four-branches-muon"].steps * step == pytest.approx(160e6, abs=step)
    assert lengths["patent"].steps * step == pytest.approx(160e6 / 2.7, abs=step)  # 0.8 × 3 + 0.2 × 1.5


def _without_times(study, logs: Path, folder: Path) -> list[Path]:
    """The recipes as long as nothing is measured."""
    (logs / "times.json").unlink()
    return study.write_recipes(folder)


def test_an_arm_is_compared_with_its_own_baseline(study, logs):
    write_log(logs, "study-plain-muon-160M-1", [31, 32, 33.5])
    write_log(logs, "study-four-branches-muon-160M-1", [31, 32, 33.7])
    *_, muon, branches = study.table_of(study.arms_of(logs, "160M"))
    assert muon == "| plain-muon | 1 | 33.500 | 6.0 | plain | +0.500 (one seed) | – |"
    # Steps of both arms with Muon take the same time, so equal pixels are equal time.
    assert "| plain-muon | +0.200 (one seed) | +0.200 (one seed) |" in branches


def test_runs_whose_batch_norms_freeze_take_less_time_from_then_on(study, logs):
    content = json.loads((logs / "times.json").read_text())
    content["160M"]["arms"]["patent"] = {"training": 3.75, "frozen": 1.125}
    (logs / "times.json").write_text(json.dumps(content))
    write_log(logs, "study-patent-160M-1", [30, 31, 32, 33, 34])
    curve = study.arms_of(logs, "160M")["patent"].curves[1]
    assert curve.minutes == pytest.approx([2, 4, 6, 8, 8.6])  # the last fifth is frozen
    write_log(logs, "study-repsr-160M-1", [30, 31])
    with pytest.raises(
        SystemExit, match="has no time of repsr for 160M; measure it: python scripts/study_times"
    ):
        study.arms_of(logs, "160M")


def test_arms_that_differ_in_the_freezing_of_batch_norms_alone_share_a_time(study, times, tmp_path):
    recipes = {path.stem.removeprefix("study-"): path for path in study.write_recipes(tmp_path)}
    names = ("patent", "patent-bn-never-frozen", "patent-bn-always-frozen", "plain", "plain-muon", "sesr")
    steps = [times.step_description(configs.read(recipes[f"{name}-160M-1"])) for name in names]
    assert len(set(steps[:3])) == 1 and len(set(steps)) == 4


def test_times_are_medians_of_rounds_per_pixel_and_state_of_batch_norms(study, times, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "LOGS", tmp_path)
    for arm in ("plain", "plain-muon", "patent", "patent-bn-never-frozen"):
        write_log(tmp_path, f"study-{arm}-160M-1", [30, 31])
    started = []

    def train(config, folder, *, resumes, shown):
        """Writes a log: steps take 2 s with BN that learns, 1 s without, and five times that in round 3."""
        assert not resumes and not shown and config.training.compile == "never"
        learning = bool(Network(config.spec).batch_norms()) and config.training.bn_freeze_fraction == 0
        started.append((config.name, learning))
        step = (2.0 if learning else 1.0) * (5 if started.count(started[-1]) == 3 else 1)
        records = ({"step": n, "loss": 0.1, "core_seconds": 7 + step * n} for n in (100, 300, 500))
        folder.mkdir(exist_ok=True)
        (folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))

    monkeypatch.setattr(times, "train", train)
    measured = times.measure("160M", 3)
    assert set(measured) == {"plain", "plain-muon", "patent", "patent-bn-never-frozen"}
    megapixels = 16 * 48**2 / 1e6  # of a step
    assert measured["plain"].training == measured["plain"].frozen == pytest.approx(1 / megapixels, rel=1e-4)
    assert measured["patent"].training == pytest.approx(2 / megapixels, rel=1e-4)
    assert measured["patent"].frozen == pytest.approx(1 / megapixels, rel=1e-4)
    assert measured["patent-bn-never-frozen"] == measured["patent"]


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_95_percent_of_the_intervals_contain_the_mean(study, seeds):
    rng = np.random.default_rng(1)
    intervals = [study.confidence_interval(rng.normal(0.3, 2, seeds)) for _ in range(2000)]
    covered = np.mean([low <= 0.3 <= high for low, high in intervals])
    assert 0.935 < covered < 0.965


def test_one_seed_has_no_interval(study):
    assert study.interval_text([0.25]) == "+0.250 (one seed)" and study.interval_text([]) == "–"


def test_a_run_of_another_length_than_the_table_says_is_refused(study, logs):
    record = {"step": 1, "loss": 0.1, "gigapixels": 0.16}  # half of it is equal time
    (logs / "study-sesr-160M-equal-time-1.jsonl").write_text(
        f'{json.dumps(record)}\n{{"step": 1, "psnr": 33}}\n'
    )
    with pytest.raises(SystemExit, match="is of a run of 160 M pixels, not 80 M; delete it, and train"):
        study.arms_of(logs, "160M")


def test_an_arm_with_runs_of_equal_time_alone_is_left_out(study, logs):
    for path in logs.glob("study-sesr-160M-?.jsonl"):
        path.rename(str(path).replace("160M-", "160M-equal-time-"))
    assert set(study.arms_of(logs, "160M")) == {"plain"}


def test_trained_runs_of_equal_time_count_before_those_of_equal_pixels(study, logs):
    write_log(logs, "study-plain-muon-160M-1", [31, 32, 33.5])
    write_log(logs, "study-four-branches-muon-160M-1", [31, 32, 33.7])
    write_log(logs, "study-four-branches-muon-160M-equal-time-1", [31, 32, 33.4])
    assert study.arms_of(logs, "160M")["four-branches-muon"].equal_time == {1: 33.4}


def test_the_report_replaces_what_is_between_the_markers(study, logs, tmp_path):
    page, plot = tmp_path / "page.md", tmp_path / "plot.png"
    page.write_text(f"before\n\n{study.BEGIN}\nold\n{study.END}\n\nafter\n")
    for _ in range(2):
        study.report(logs, page, plot)
        text = page.read_text()
        assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
        assert text.count("| sesr | 3 |") == 1 and "pictures/plot.png" in text
        assert "Processor time: Some Processor, one core, median of 3 rounds." in text
    assert plot.stat().st_size > 10_000


def test_the_page_names_every_arm_or_has_no_results_yet(study):
    text = (ROOT / "docs" / "branches.md").read_text(encoding="utf-8")
    section = text.split(study.BEGIN)[1].split(study.END)[0].strip()
    rounds = [part["pixels"] for part in study.read_study()["rounds"]]
    measured = {pixels: arms for pixels in rounds if (arms := study.arms_of(study.LOGS, pixels))}
    assert bool(measured) == (section != study.NO_RUNS)
    for pixels, arms in measured.items():
        assert f"### {pixels} pixels" in section
        for row in study.table_of(arms):
            assert row in section
