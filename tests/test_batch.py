"""Batches: results in order, complete or absent, resumed after a stop, and shared among machines."""

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from network_specs import random_model
from onebranch.atomic_files import temporary_name
from onebranch.enhancer import batch, folders, manifest
from onebranch.enhancer.batch import Batch, Done, MemoryBudget, number_of_jobs
from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.folders import BatchObserver, BatchOptions, Summary, enhance_files, preview_files
from onebranch.enhancer.jobs import Job, Shard, check_unique_targets
from onebranch.enhancer.manifest import Manifest
from onebranch.enhancer.names import Naming
from onebranch.enhancer.options import Options
from onebranch.enhancer.single_file import FileOptions
from onebranch.errors import OnebranchError
from onebranch.images.encoders.encoding import Encoding
from onebranch.images.picture import Picture
from onebranch.images.reading import read
from onebranch.images.writing import write
from onebranch.runtime.cores import cores
from onebranch.spec.shorthand import NetworkShorthand, expand

MODEL = random_model(
    expand(NetworkShorthand(task="upscale", width=2, depth=0, branches="plain")), name="small"
)
OPTIONS = Options(model=MODEL, threads=1)

RESUME = BatchOptions(resume=True, jobs=2)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of seven pictures."""
    folder = tmp_path / "in"
    folder.mkdir()
    for seed in range(7):
        pixels = np.random.default_rng(seed).integers(0, 256, (9, 11, 3), np.uint8)
        write(Picture(pixels), folder / f"{seed}.png")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    """The pictures of a folder and those below it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.[pj][np]g")}


def sorts(summary: Summary) -> list[str]:
    return [type(result).__name__ for result in summary.results]


def test_any_number_at_a_time_gives_the_same_in_the_same_order(pictures: Path, tmp_path: Path) -> None:
    (pictures / "3.png").write_bytes(b"no picture")
    outcomes = {}
    for count in (1, 2, 5, 99):
        out, shown = tmp_path / f"out{count}", []
        summary = enhance_files(
            [pictures],
            out,
            OPTIONS,
            observer=BatchObserver(finished=shown.append),
            batch=BatchOptions(jobs=count),
        )
        assert [result.job.source.name for result in shown] == [f"{n}.png" for n in range(7)]
        assert sorts(summary) == ["Done"] * 3 + ["Failed"] + ["Done"] * 3
        outcomes[count] = content(out)
    assert len(outcomes[1]) == 6
    assert outcomes[1] == outcomes[2] == outcomes[5] == outcomes[99]


def test_as_many_at_a_time_as_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "cores", lambda: 4)
    assert [number_of_jobs(None, pictures) for pictures in (0, 1, 3, 100)] == [1, 1, 3, 4]
    assert [number_of_jobs(9, pictures) for pictures in (1, 100)] == [1, 9]
    monkeypatch.setattr(batch, "cores", lambda: 64)
    assert number_of_jobs(None, 100) == batch.DEFAULT_MAX_JOBS
    for wrong in (0, -1, 257):
        with pytest.raises(OnebranchError, match="jobs must be 1 to 256"):
            number_of_jobs(wrong, 5)


def test_a_file_that_may_need_all_memory_takes_one_at_a_time() -> None:
    assert folders._requested_jobs(Options(model="any.onnx"), BatchOptions()) == 1
    assert folders._requested_jobs(Options(model="any.onnx"), BatchOptions(jobs=3)) == 3
    assert folders._requested_jobs(OPTIONS, BatchOptions()) is None


def test_several_are_in_flight_and_never_more_than_asked(pictures: Path, tmp_path: Path) -> None:
    flying, most, both = set(), [0], threading.Barrier(2, timeout=20)

    def share(job: Job, part: float) -> None:
        if part == 0 and job.source.name in ("0.png", "1.png"):
            both.wait()  # fails unless both pictures are in progress at the same time
        (flying.add if part < 1 else flying.discard)(job)
        most[0] = max(most[0], len(flying))

    summary = enhance_files(
        [pictures],
        tmp_path / "out",
        OPTIONS,
        batch=BatchOptions(jobs=2),
        observer=BatchObserver(progress=share),
    )
    assert sorts(summary) == ["Done"] * 7
    assert most[0] == 2


def test_an_enhancers_threads_are_shared(pictures: Path) -> None:
    """As many pictures at a time as there are cores: one thread each. A single picture takes all cores."""
    expected = 1 if cores() > 1 else None
    assert Enhancer(Options(model=MODEL), concurrency=cores()).options.threads == expected


def test_pictures_share_the_memory(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budget, inside, together = MemoryBudget(10), [], []

    def use(needed: int) -> None:
        with budget.reserve(needed):
            inside.append(needed)
            time.sleep(0.002)
            together.append(list(inside))
            inside.remove(needed)

    threads = [threading.Thread(target=use, args=(needed,)) for needed in (4, 99, 4, 7, 10, 2) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(together) == 18
    assert all(sum(needed) <= 10 or len(needed) == 1 for needed in together)
    monkeypatch.setattr(batch, "memory_limit", lambda limit: 1)  # so every picture is enhanced alone
    assert (
        sorts(enhance_files([pictures], tmp_path / "out", OPTIONS, batch=BatchOptions(jobs=3)))
        == ["Done"] * 7
    )


def test_an_internal_error_stops_only_its_picture(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = batch.enhance_file

    def wrong(source: Path, *rest: object, **options: object) -> object:
        if source.name == "2.png":
            raise ValueError("too\nbad")
        return right(source, *rest, **options)

    summary = enhance_files([pictures], tmp_path / "out", OPTIONS, enhance=wrong)
    assert sorts(summary).count("Done") == 6
    (failed,) = summary.failed
    assert failed.reason.endswith("2.png': a fault in onebranch, ValueError: too\\nbad; please report it")


@pytest.mark.parametrize("count", [1, 3])
def test_an_interrupt_leaves_whole_files_only(pictures: Path, tmp_path: Path, count: int) -> None:
    out = tmp_path / "out"

    def share(job: Job, part: float) -> None:
        if part == 1 and job.source.name == "4.png" and count == 1:
            raise KeyboardInterrupt  # as in the main thread: while the fifth is being made

    def shown(result: Done) -> None:
        if result.job.source.name == "3.png" and count > 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        enhance_files(
            [pictures],
            out,
            OPTIONS,
            batch=BatchOptions(jobs=count),
            observer=BatchObserver(progress=share, finished=shown),
        )
    made = content(out)
    assert {"0.png", "1.png", "2.png", "3.png"} <= set(made)
    assert count > 1 or len(made) == 4
    assert sorted(path.name for path in out.iterdir()) == sorted(made)
    whole = tmp_path / "whole"
    enhance_files([pictures], whole, OPTIONS)
    assert made == {name: bytes_ for name, bytes_ in content(whole).items() if name in made}
    assert threading.active_count() == 1 or not any(
        t.name.startswith("picture") for t in threading.enumerate()
    )


def test_an_interrupt_ends_pictures_that_others_work_on(pictures: Path, tmp_path: Path) -> None:
    began, stop = threading.Event(), threading.Event()

    def share(job: Job, part: float) -> None:
        if job.source.name == "1.png" and part == 1:
            began.set()
            assert stop.wait(20)

    enhancer = Enhancer(OPTIONS, concurrency=2)
    working = Batch(enhancer, FileOptions(), progress=share)
    jobs = [Job(pictures / f"{n}.png", tmp_path / f"{n}.png") for n in range(7)]
    outcomes = working.outcomes(jobs)
    assert isinstance(next(outcomes), Done)
    assert began.wait(20)
    threading.Timer(0.1, stop.set).start()  # the second goes on only when the interrupt has been taken
    with pytest.raises(KeyboardInterrupt):
        outcomes.throw(KeyboardInterrupt())
    assert not list(tmp_path.glob(".onebranch*"))


def test_a_reader_that_stops_ends_the_batch_at_once(pictures: Path, tmp_path: Path) -> None:
    def shown(result: Done) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError) as caught:
        enhance_files(
            [pictures],
            tmp_path / "out",
            OPTIONS,
            observer=BatchObserver(finished=shown),
            batch=BatchOptions(jobs=2),
        )
    assert caught.traceback  # its frames still hold all references
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("picture")]


def test_a_run_in_which_all_fail_leaves_no_folder(tmp_path: Path) -> None:
    paths = [tmp_path / "absent.png", tmp_path / "missing.png"]
    out = tmp_path / "new" / "er"
    assert sorts(enhance_files(paths, out, OPTIONS)) == ["Failed", "Failed"]
    assert not (tmp_path / "new").exists()
    out.mkdir(parents=True)
    enhance_files(paths, out, OPTIONS)
    assert out.exists()  # it existed before


def test_folders_are_mirrored(pictures: Path, tmp_path: Path) -> None:
    (pictures / "deep" / "er").mkdir(parents=True)
    (pictures / "0.png").rename(pictures / "deep" / "er" / "0.png")
    (pictures / "empty").mkdir()
    out = pictures / "out"
    for _ in range(2):  # the results lie among the pictures, and are not enhanced again
        summary = enhance_files([pictures], out, OPTIONS, batch=BatchOptions(recursive=True, resume=True))
        assert len(summary.results) == 7
    assert sorted(content(out)) == [*(f"{n}.png" for n in range(1, 7)), "deep/er/0.png"]
    assert not (out / "empty").exists()


def test_resuming_does_what_is_missing_and_nothing_else(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert sorts(enhance_files([pictures], out, OPTIONS, batch=RESUME)) == ["Done"] * 7
    first = content(out)
    (out / "2.png").unlink()
    half = out / temporary_name()
    half.write_bytes(b"half")
    summary = enhance_files([pictures], out, OPTIONS, batch=RESUME)
    assert sorts(summary) == ["Skipped"] * 2 + ["Done"] + ["Skipped"] * 4
    assert content(out) == first
    assert not half.exists()
    records = [json.loads(line) for line in (out / "onebranch.jsonl").read_text().splitlines()]
    assert [record["target"] for record in records][-1] == "2.png" and len(records) == 8
    assert records[-1]["picture"]["path"] == str(Path("..", "in", "2.png"))


def test_results_of_other_options_are_reported_and_kept(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    enhance_files([pictures], out, OPTIONS, batch=RESUME)
    first = content(out)
    write(Picture(np.zeros((5, 5, 3), np.uint8)), pictures / "1.png", overwrite=True)
    (out / "3.png").write_bytes(b"somebody else's")
    summary = enhance_files([pictures], out, OPTIONS, batch=RESUME)
    assert [failed.job.source.name for failed in summary.failed] == ["1.png", "3.png"]
    assert "it was made before" in summary.failed[0].reason
    assert "it differs from the result of enhancing" in summary.failed[1].reason
    assert content(out) == {**first, "3.png": b"somebody else's"}
    other = enhance_files([pictures], out, Options(model=MODEL, threads=1, scale=3), batch=RESUME)
    assert len(other.failed) == 7
    assert sum("it was made with other options" in failed.reason for failed in other.failed) == 6
    again = enhance_files([pictures], out, OPTIONS, FileOptions(overwrite=True), batch=RESUME)
    assert [done.job.source.name for done in again.done] == ["1.png", "3.png"]
    assert len(again.skipped) == 5
    assert content(out)["3.png"] == first["3.png"] != content(out)["1.png"]


@pytest.mark.parametrize(
    "options",
    [
        Options(model=random_model(MODEL.spec, seed=5), threads=1),
        Options(model=MODEL, threads=1, self_ensemble=True),
        Options(model=MODEL, threads=1, chroma="bilinear"),
    ],
)
def test_other_options_and_other_weights_are_no_longer_done(
    pictures: Path, tmp_path: Path, options: Options
) -> None:
    source, out = pictures / "0.png", tmp_path / "out"
    enhance_files([source], out, OPTIONS, batch=RESUME)
    assert sorts(enhance_files([source], out, options, batch=RESUME)) == ["Failed"]
    assert sorts(enhance_files([source], out, OPTIONS, FileOptions(Encoding(level=9)), batch=RESUME)) == [
        "Failed"
    ]
    without_effect = Options(model=MODEL, threads=2, memory=10**9, tile=64)
    assert sorts(enhance_files([source], out, without_effect, batch=RESUME)) == ["Skipped"]


def test_automatic_precision_is_recorded_as_what_it_stands_for() -> None:
    def recorded(model: str | None, precision: str) -> str:
        return manifest.fingerprint(Options(model=model, precision=precision), Encoding())

    for model in (None, "restore-x2"):
        assert recorded(model, "auto") == recorded(model, "fp32") != recorded(model, "int8")
    assert recorded("restore-x2-int8", "auto") != recorded("restore-x2-int8", "fp32")


def test_copied_folders_count_by_their_content(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    enhance_files([pictures], out, OPTIONS, batch=RESUME)
    for path in (*pictures.iterdir(), *out.glob("*.png")):
        os.utime(path, (1, 1))
    assert sorts(enhance_files([pictures], out, OPTIONS, batch=RESUME)) == ["Skipped"] * 7


def test_results_without_a_record_are_taken_over_if_the_same_comes_out(
    pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    enhance_files([pictures], out, OPTIONS)
    changed = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert sorts(enhance_files([pictures], out, OPTIONS, batch=RESUME)) == ["Done"] * 7
    assert changed == {path: path.stat().st_mtime_ns for path in out.glob("*.png")}
    assert sorts(enhance_files([pictures], out, OPTIONS, batch=RESUME)) == ["Skipped"] * 7


def test_a_result_without_a_record_gets_its_comparison(pictures: Path, tmp_path: Path) -> None:
    out, batched = tmp_path / "out", replace(RESUME, comparisons=tmp_path / "side")
    enhance_files([pictures], out, OPTIONS)
    assert sorts(enhance_files([pictures], out, OPTIONS, batch=batched)) == ["Done"] * 7
    assert len(list((tmp_path / "side").glob("*_compared.png"))) == 7


def test_results_are_compared_with_all_earlier_results() -> None:
    composed, decomposed = Path("out/\u00e9.png"), Path("out/e\u0301.png")
    check_unique_targets([(Path("1"), composed), (Path("2"), decomposed)])
    with pytest.raises(OnebranchError, match="'1' and '3' would both become"):
        check_unique_targets([(Path("1"), composed), (Path("2"), decomposed), (Path("3"), composed)])


@pytest.mark.parametrize("recorded", [True, False])
def test_a_damaged_result_is_left_alone_and_reported(pictures: Path, tmp_path: Path, recorded: bool) -> None:
    out = tmp_path / "out"
    enhance_files([pictures], out, OPTIONS, batch=RESUME if recorded else BatchOptions())
    damaged = sorted(out.glob("*.png"))[2]
    content = damaged.read_bytes()[:-40]
    damaged.write_bytes(content)
    summary = enhance_files([pictures], out, OPTIONS, batch=RESUME)
    (failed,) = summary.failed
    assert f"'{damaged}' exists, and it differs from the result of enhancing" in failed.reason
    assert "(--overwrite)" in failed.reason
    assert damaged.read_bytes() == content


@pytest.mark.parametrize("end", [b'{"target": "0.png", "pict', b"\xff\xfe\n", b'[1]\n{"target": 3}\n'])
def test_a_manifest_that_was_cut_off_is_read_as_far_as_it_goes(
    pictures: Path, tmp_path: Path, end: bytes
) -> None:
    out = tmp_path / "out"
    enhance_files([pictures], out, OPTIONS, batch=RESUME)
    path = out / "onebranch.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:5]) + end)
    assert sorts(enhance_files([pictures], out, OPTIONS, batch=RESUME)).count("Skipped") == 5
    assert sorts(enhance_files([pictures], out, OPTIONS, batch=RESUME)) == ["Skipped"] * 7


@pytest.mark.skipif(os.name != "posix", reason="files are locked on POSIX systems only")
def test_two_runs_do_not_resume_into_one_folder(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with Manifest(out, ""), pytest.raises(OnebranchError, match=r"another run is writing .*onebranch.jsonl"):
        enhance_files([pictures], out, OPTIONS, batch=RESUME)
    assert not enhance_files([pictures], out, OPTIONS, batch=RESUME).failed


def test_parts_do_everything_once(pictures: Path, tmp_path: Path) -> None:
    out, counts = tmp_path / "out", []
    for part in (1, 2, 3):
        summary = enhance_files([pictures], out, OPTIONS, batch=BatchOptions(shard=Shard(part, 3)))
        assert not summary.failed
        counts.append(len(summary.done))
    assert sum(counts) == 7 and max(counts) < 7
    enhance_files([pictures], tmp_path / "whole", OPTIONS)
    assert content(out) == content(tmp_path / "whole")
    manifests = sorted(path.name for path in out.glob("*.jsonl"))
    assert manifests == [f"onebranch-{part}-of-3.jsonl" for part in (1, 2, 3)]
    assert sorts(enhance_files([pictures], out, OPTIONS, batch=RESUME)) == ["Skipped"] * 7


def test_resume_and_shard_need_a_folder(pictures: Path, tmp_path: Path) -> None:
    for batched in (RESUME, BatchOptions(shard=Shard(1, 2)), BatchOptions(naming=Naming(file_format="png"))):
        with pytest.raises(OnebranchError, match="name a folder for several pictures, and with --name"):
            enhance_files([pictures / "0.png"], tmp_path / "x.png", OPTIONS, batch=batched)


def test_comparisons_lie_beside_the_results(pictures: Path, tmp_path: Path) -> None:
    batched = BatchOptions(comparisons=tmp_path / "side", naming=Naming(file_format="jpg"))
    summary = enhance_files([pictures], tmp_path / "out", OPTIONS, batch=batched)
    assert sorted(content(tmp_path / "side")) == [f"{n}_compared.png" for n in range(7)]
    assert summary.done[0].job.comparison == tmp_path / "side" / "0_compared.png"
    shape = read(tmp_path / "side" / "0_compared.png").pixels.shape
    assert shape[1] > 2 * shape[0] / 3 > 200
    one = tmp_path / "one.jpg"
    enhance_files([pictures / "0.png"], tmp_path / "o.png", OPTIONS, batch=BatchOptions(comparisons=one))
    assert one.exists()
    before = one.read_bytes()
    (failed,) = enhance_files(
        [pictures / "0.png"], tmp_path / "p.png", OPTIONS, batch=BatchOptions(comparisons=one)
    ).failed
    assert "one.jpg': it exists" in failed.reason
    assert one.read_bytes() == before and not (tmp_path / "p.png").exists()
    with pytest.raises(OnebranchError, match="names a picture"):
        enhance_files([pictures], tmp_path / "q", OPTIONS, batch=BatchOptions(comparisons=one))


def test_lossless_jpeg_is_refused_before_anything(pictures: Path, tmp_path: Path) -> None:
    batched, writing = BatchOptions(naming=Naming(file_format="jpg")), FileOptions(Encoding(lossless=True))
    with pytest.raises(
        OnebranchError, match="JPEG is always lossy; choose another format, such as --format png"
    ):
        enhance_files([pictures], tmp_path / "out", OPTIONS, writing, batch=batched)
    assert not (tmp_path / "out").exists()


def test_previews_write_nothing_and_describe_the_results(pictures: Path, tmp_path: Path) -> None:
    (pictures / "3.png").write_bytes(b"no picture")
    before = sorted(tmp_path.rglob("*"))
    for options in (OPTIONS, Options(model=MODEL, threads=1, width=44)):
        batched = BatchOptions(recursive=True, comparisons=tmp_path / "side", resume=True)
        summary = preview_files([pictures], tmp_path / "out", options, batch=batched)
        assert sorted(tmp_path.rglob("*")) == before
        assert sorts(summary) == ["Previewed"] * 3 + ["Failed"] + ["Previewed"] * 3
        done = enhance_files([pictures], tmp_path / f"real{options.width}", options)
        for previewed, made in zip(summary.previewed, done.done, strict=True):
            assert previewed.preview == made.preview
            assert previewed.seconds is not None and 0 < previewed.seconds < 60
        before = sorted(tmp_path.rglob("*"))


def test_previews_know_finished_results(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    enhance_files([pictures], out, OPTIONS, batch=RESUME)
    (out / "2.png").unlink()
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert sorts(preview_files([pictures], out, OPTIONS, batch=RESUME)).count("Skipped") == 6
    assert before == {path: path.stat().st_mtime_ns for path in out.iterdir()}


def test_every_failure_names_its_picture(pictures: Path, tmp_path: Path) -> None:
    options = Options(model=MODEL, threads=1, memory=200_000_000)
    batched = BatchOptions(naming=Naming(file_format="webp"))
    write(Picture(np.zeros((3000, 3000, 3), np.uint8)), pictures / "large.png")
    for act in (enhance_files, preview_files):
        (failed,) = act([pictures], tmp_path / act.__name__, options, batch=batched).failed
        assert failed.reason.startswith(f"'{pictures / 'large.png'}': ") and "--memory" in failed.reason


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_batch import OPTIONS
from onebranch.enhancer.folders import BatchObserver, BatchOptions, enhance_files
shown = lambda result: print(1, flush=True) if hasattr(result, "preview") else None
enhance_files([{source!r}], {out!r}, OPTIONS, batch=BatchOptions(resume=True, jobs=2),
              observer=BatchObserver(finished=shown))
"""


@pytest.mark.skipif(os.name != "posix", reason="only there a process can be killed outright")
def test_killed_at_any_moment_and_resumed_it_is_as_if_nothing_had_happened(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for seed in range(40):
        pixels = np.random.default_rng(seed).integers(0, 256, (90, 110, 3), np.uint8)
        write(Picture(pixels), source / f"{seed}.png")
    enhance_files([source], tmp_path / "whole", OPTIONS)
    whole = content(tmp_path / "whole")
    code = KILLED.format(tests=str(Path(__file__).parent), source=str(source), out=str(out))
    for delay in (0.0, 0.003, 0.007, 0.012, 0.02):
        running = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert running.stdout is not None
        assert running.stdout.readline() == b"1\n"
        time.sleep(delay)
        running.kill()
        running.communicate()
        made = content(out)
        assert made.items() <= whole.items()  # files with their final names are complete
        records = (out / "onebranch.jsonl").read_bytes().count(b"\n")
        assert records >= len(made) - 2  # those in flight
    summary = enhance_files([source], out, OPTIONS, batch=RESUME)
    assert not summary.failed and len(summary.skipped) >= 5
    assert content(out) == whole
    assert not list(out.glob(".onebranch*"))
