"""Batches for a cluster and for URLs, without Ray: tasks run in this process, and may be lost."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from command_line import CommandLine
from network_specs import random_model
from onebranch.cluster import manifests
from onebranch.cluster.cluster_batch import enhance_on_cluster
from onebranch.cluster.schedule import BatchSchedule, Capacity, CompletedTask
from onebranch.cluster.shipped_models import shipped
from onebranch.cluster.tasks import ClusterTask, PictureReport, PictureRow, PictureWorker
from onebranch.cluster.urls import RemoteFile
from onebranch.enhancer.batch import Skipped
from onebranch.enhancer.folders import BatchObserver, BatchOptions, enhance_files
from onebranch.enhancer.jobs import Shard
from onebranch.enhancer.names import Naming
from onebranch.enhancer.options import Options
from onebranch.enhancer.single_file import FileOptions
from onebranch.errors import OnebranchError
from onebranch.images.encoders.encoding import Encoding
from onebranch.images.picture import Picture
from onebranch.images.writing import write
from onebranch.spec.shorthand import NetworkShorthand, expand
from onebranch.video.mixed_files import MixedFiles
from onebranch.video.options import VideoOptions
from test_folders import write_picture

fsspec = pytest.importorskip("fsspec")

MODEL = random_model(
    expand(NetworkShorthand(task="upscale", width=2, depth=0, branches="plain")), name="small"
)
OPTIONS = Options(model=MODEL, threads=1)
RESUME = BatchOptions(resume=True)
GIGABYTE = 1 << 30
TWO_NODES = Capacity(4, 2, 4 * GIGABYTE)


class LossyExecutor:
    """Runs tasks at once. before, after: how often workers of a picture are lost before, after its work.

    stop_after: number of the task at which the command is interrupted.
    """

    def __init__(self, before=None, after=None, capacity=TWO_NODES, stop_after=None):
        self.before, self.after = dict(before or {}), dict(after or {})
        self.nodes, self.stop_after = capacity, stop_after
        self.tasks, self.waiting, self.ended, self.closed = [], [], 0, False

    def __call__(self, setup, pictures, progress):
        self.worker = PictureWorker(setup, progress)
        return self

    def capacity(self):
        return self.nodes

    def submit(self, task):
        self.tasks.append(task)
        self.waiting.append(task)

    def completed(self):
        task = self.waiting.pop()  # the last one first: reports come out of order
        self.ended += 1
        if self.ended == self.stop_after:
            raise KeyboardInterrupt
        if self._is_lost(self.before, task):
            return [CompletedTask(task, lost="its node was lost")]
        reports = self.worker.reports(task)
        if self._is_lost(self.after, task):
            return [CompletedTask(task, lost="its process ended")]
        return [CompletedTask(task, reports, seconds=0.001)]

    def close(self):
        self.closed = True

    @staticmethod
    def _is_lost(losses, task):
        for row in task.rows:
            name = Path(row.source).name
            if losses.get(name, 0) > 0:
                losses[name] -= 1
                return True
        return False


@pytest.fixture
def pictures(tmp_path):
    """A folder with seven pictures, one of them in a subfolder."""
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    for seed in range(6):
        write_picture(folder / f"{seed:02}.png", seed)
    write_picture(folder / "deep" / "11.png", 11)
    return folder


@pytest.fixture
def store():
    """An empty store in memory."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    return system


def tree(folder: Path) -> dict[str, bytes]:
    """The content of every result below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".jsonl"
    }


def uploaded(store, root: str) -> dict[str, bytes]:
    """The content of every result below a URL's path."""
    return {
        path.removeprefix(f"{root}/"): store.cat(path)
        for path in store.find(root)
        if not path.endswith(".jsonl")
    }


def upload(store, folder: Path, root: str) -> None:
    """Copy the files of a folder to the store."""
    for name, data in tree(folder).items():
        store.pipe(f"{root}/{name}", data)


def run(paths, out, executor, **arguments):
    """A run on a cluster that is simulated."""
    arguments = {"batch": BatchOptions(recursive=True), **arguments}
    return enhance_on_cluster([paths], out, OPTIONS, address="fake", open_executor=executor, **arguments)


def test_results_and_order_are_those_of_one_machine(pictures, tmp_path):
    (pictures / "05.png").write_bytes(b"no picture")
    batch = BatchOptions(recursive=True, naming=Naming("{stem}_{width}{suffix}"))
    one = enhance_files([pictures], tmp_path / "one", OPTIONS, batch=batch)
    reported, shares = [], {}
    observer = BatchObserver(
        progress=lambda job, share: shares.update({job.source.name: share}), finished=reported.append
    )
    executor = LossyExecutor()
    many = run(pictures, tmp_path / "many", executor, batch=batch, observer=observer)
    assert tree(tmp_path / "many") == tree(tmp_path / "one")
    assert [outcome.job.source for outcome in many.results] == [outcome.job.source for outcome in one.results]
    assert [type(outcome) for outcome in many.results] == [type(outcome) for outcome in one.results]
    assert [(f.reason, f.job.target.name) for f in many.failed] == [
        (f.reason, f.job.target.name) for f in one.failed
    ]
    assert tuple(reported) == many.results
    assert set(shares.values()) == {1.0}
    assert executor.closed
    assert [done.preview for done in many.done] == [done.preview for done in one.done]


def test_rows_hold_no_pictures(pictures, tmp_path):
    executor = LossyExecutor()
    run(pictures, tmp_path / "out", executor)
    rows = [row for task in executor.tasks for row in task.rows]
    assert len(rows) == 7
    assert all(len(repr(row)) < 1000 for row in rows)


@pytest.mark.parametrize("kind", ["before", "after"])
def test_a_lost_worker_costs_its_pictures_in_flight(pictures, tmp_path, kind):
    enhance_files([pictures], tmp_path / "one", OPTIONS, batch=BatchOptions(recursive=True))
    executor = LossyExecutor(**{kind: {"03.png": 2, "11.png": 1}})
    summary = run(pictures, tmp_path / "out", executor)
    assert len(summary.done) == 7
    assert tree(tmp_path / "out") == tree(tmp_path / "one")
    attempts = [row.attempts for task in executor.tasks for row in task.rows]
    assert max(attempts) == 2
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(
        [*(f"{n:02}.png" for n in range(6)), "deep"]
    )


def test_a_picture_that_ends_its_workers_fails_alone(pictures, tmp_path):
    executor = LossyExecutor(before={"03.png": 99})
    summary = run(pictures, tmp_path / "out", executor)
    assert len(summary.done) == 6
    (failure,) = summary.failed
    assert failure.reason == (
        f"'{pictures}/03.png': its worker was lost 5 times, the last time because its node was lost"
    )


def test_a_result_of_another_program_is_refused_after_a_loss(pictures, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "03.png").write_bytes(b"kept")
    summary = run(pictures, tmp_path / "out", LossyExecutor(before={"03.png": 1}))
    assert "exists, and it differs from the result" in summary.failed[0].reason
    assert (tmp_path / "out" / "03.png").read_bytes() == b"kept"


def test_one_machine_continues_a_cluster_and_the_other_way_round(pictures, tmp_path):
    out, batch = tmp_path / "out", BatchOptions(recursive=True, resume=True)
    with pytest.raises(KeyboardInterrupt):
        run(pictures, out, LossyExecutor(stop_after=4), batch=batch)
    half = enhance_files([pictures], out, OPTIONS, batch=batch)
    assert 0 < len(half.skipped) < 7
    assert len(half.skipped) + len(half.done) == 7
    again = run(pictures, out, LossyExecutor(), batch=batch)
    assert len(again.skipped) == 7
    (pictures / "03.png").write_bytes((pictures / "04.png").read_bytes())
    changed = run(pictures, out, LossyExecutor(), batch=batch)
    assert len(changed.skipped) == 6
    assert "it was made before" in changed.failed[0].reason
    lines = (out / "onebranch.jsonl").read_text().splitlines()
    assert len({json.loads(line)["target"] for line in lines}) == len(lines) == 7


def test_existing_results_options_and_shards(pictures, tmp_path):
    out = tmp_path / "out"
    parts = [BatchOptions(recursive=True, shard=Shard(index, 2)) for index in (1, 2)]
    first, second = (run(pictures, out, LossyExecutor(), batch=batch) for batch in parts)
    assert len(first.done) + len(second.done) == 7
    refused = run(pictures, out, LossyExecutor())
    assert all("it exists; choose another name" in failure.reason for failure in refused.failed)
    other = FileOptions(Encoding(level=9))
    batch = BatchOptions(recursive=True, resume=True)
    differing = run(pictures, out, LossyExecutor(), file_options=other, batch=batch)
    assert all("it was made with other options" in failure.reason for failure in differing.failed)
    replaced = run(pictures, out, LossyExecutor(), file_options=FileOptions(overwrite=True))
    assert len(replaced.done) == 7


@pytest.mark.parametrize("target", ["url", "folder"])
def test_urls_give_the_results_of_files(pictures, tmp_path, store, target):
    (pictures / "05.png").write_bytes(b"no picture")
    enhance_files([pictures], tmp_path / "one", OPTIONS, batch=BatchOptions(recursive=True))
    upload(store, pictures, "/bucket/in")
    out = "memory://bucket/out" if target == "url" else tmp_path / "out"
    batch = BatchOptions(recursive=True, resume=True)
    executor = LossyExecutor(after={"03.png": 1})
    summary = run("memory://bucket/in", out, executor, batch=batch)
    results = uploaded(store, "/bucket/out") if target == "url" else tree(tmp_path / "out")
    assert results == tree(tmp_path / "one")
    assert [f.reason.split(":")[0] for f in summary.failed] == ["cannot read 'memory"]
    assert "'memory://bucket/in/05.png'" in summary.failed[0].reason
    again = run("memory://bucket/in", out, LossyExecutor(), batch=batch)
    assert len(again.skipped) == 6
    store.pipe("/bucket/in/03.png", (pictures / "04.png").read_bytes())
    changed = run("memory://bucket/in", out, LossyExecutor(), batch=batch)
    assert any("it was made before 'memory://bucket/in/03.png' changed" in f.reason for f in changed.failed)


def test_a_run_that_is_killed_before_its_records_are_uploaded(pictures, tmp_path, store, monkeypatch):
    batch = BatchOptions(recursive=True, resume=True)
    monkeypatch.setattr(manifests.UrlManifest, "close", lambda self: None)
    with pytest.raises(KeyboardInterrupt):
        run(pictures, "memory://bucket/out", LossyExecutor(stop_after=4), batch=batch)
    before = uploaded(store, "/bucket/out")
    assert 0 < len(before) < 7
    assert not store.glob("/bucket/out/*.jsonl")
    monkeypatch.undo()
    summary = run(pictures, "memory://bucket/out", LossyExecutor(), batch=batch)
    assert len(summary.done) == 7
    enhance_files([pictures], tmp_path / "one", OPTIONS, batch=BatchOptions(recursive=True))
    assert uploaded(store, "/bucket/out") == tree(tmp_path / "one")
    assert len(run(pictures, "memory://bucket/out", LossyExecutor(), batch=batch).skipped) == 7


def test_a_result_at_a_url_is_not_replaced(pictures, store):
    store.pipe("/bucket/out/03.png", b"kept")
    refused = run(pictures, "memory://bucket/out", LossyExecutor())
    (failure,) = refused.failed
    assert failure.reason == (
        "cannot write 'memory://bucket/out/03.png': it exists; choose another name or allow overwriting"
        " (--overwrite)"
    )
    differing = run(pictures, "memory://bucket/out", LossyExecutor(), batch=RESUME)
    assert any("'memory://bucket/out/03.png' exists, and it differs" in f.reason for f in differing.failed)
    assert store.cat("/bucket/out/03.png") == b"kept"
    with pytest.raises(OnebranchError, match=r"cannot write 'memory://bucket/out/03\.png': it exists"):
        RemoteFile("memory://bucket/out/03.png").publish(pictures / "00.png", overwrite=False)
    run(pictures, "memory://bucket/out", LossyExecutor(), file_options=FileOptions(overwrite=True))
    assert store.cat("/bucket/out/03.png") != b"kept"


def test_the_manifest_at_a_url_comes_in_parts(pictures, store, monkeypatch):
    monkeypatch.setattr(manifests, "RECORDS_PER_PART", 5)
    run(pictures, "memory://bucket/out", LossyExecutor(), batch=BatchOptions(recursive=True, resume=True))
    parts = store.glob("/bucket/out/onebranch-*.jsonl")
    counts = [len(store.cat(part).splitlines()) for part in parts]
    assert sum(counts) == 7
    assert counts[0] == 5
    record = json.loads(store.cat(parts[0]).splitlines()[0])
    assert {"size", "changed", "digest", "version"} == {*record["result"]}


def test_memory_follows_the_preview(pictures, tmp_path):
    """A picture that needs more than the share of a core gets it, with the cores of that memory."""
    small = Capacity(8, 8, 8 * 61_000_000)
    executor = LossyExecutor(capacity=small)
    (pictures / "03.png").unlink()
    write(Picture(np.zeros((900, 800, 3), np.uint8)), pictures / "03.png")
    summary = run(pictures, tmp_path / "out", executor, batch=BatchOptions())
    assert not summary.failed
    tasks = [task for task in executor.tasks if Path(task.rows[0].source).name == "03.png"]
    assert len(tasks) == 2
    assert tasks[0].memory == small.core_memory
    needed = next(done.preview.memory for done in summary.done if done.job.source.name == "03.png")
    assert needed > small.core_memory
    assert tasks[1].memory >= needed or tasks[1].unlimited


def rows_of(count):
    return [PictureRow(n, f"/in/{n}.png", f"/out/{n}.png", None, "", f"{n}.png") for n in range(count)]


class CountingExecutor(LossyExecutor):
    """Reports every picture as skipped after the same time."""

    seconds = 0.01

    def completed(self):
        task = self.waiting.pop(0)
        reports = [PictureReport(row.index, Skipped(row.job)) for row in task.rows]
        return [CompletedTask(task, reports, seconds=self.seconds * len(task.rows))]


def test_small_pictures_are_grouped_and_the_last_ones_spread():
    executor = CountingExecutor()
    reports = [one for many in BatchSchedule(rows_of(2000), executor).reports() for one in many]
    assert sorted(report.index for report in reports) == list(range(2000))
    sizes = [len(task.rows) for task in executor.tasks]
    assert max(sizes) == 50  # of 0.01 s each in 0.5 s
    assert sizes[-1] == 1
    assert all(task.cores == 1 and task.memory == 2 * GIGABYTE for task in executor.tasks)


@pytest.mark.parametrize(
    ("pictures", "threads", "cores"), [(1, None, 2), (2, None, 2), (100, None, 1), (100, 2, 2)]
)
def test_cores_of_a_task(pictures, threads, cores):
    executor = CountingExecutor()
    list(BatchSchedule(rows_of(pictures), executor, threads).reports())
    assert {task.cores for task in executor.tasks} == {cores}


def test_a_picture_that_no_node_can_hold_gets_the_largest_one():
    executor = CountingExecutor()
    batch = BatchSchedule(rows_of(1), executor)
    task = batch._larger_task(rows_of(1)[0], 9 * GIGABYTE)
    assert (task.cores, task.memory, task.unlimited) == (2, 4 * GIGABYTE, True)
    executor.nodes = Capacity(1, 1, GIGABYTE)
    batch._capacity = executor.nodes
    lost = CompletedTask(ClusterTask(tuple(rows_of(1)), 2, 2 * GIGABYTE), lost="x", out_of_memory=True)
    again = batch._repeated(lost, rows_of(1)[0])
    assert (again.cores, again.memory, again.unlimited) == (1, GIGABYTE, True)


def test_the_command_line_takes_urls(pictures, tmp_path, store, monkeypatch, capsys):
    upload(store, pictures, "/bucket/in")
    store.pipe("/bucket/in/bad.png", b"no picture")
    store.pipe("/bucket/in/phone.heic", b"unread")
    command = CommandLine(monkeypatch, capsys)
    arguments = ("enhance", "memory://bucket/in", "-m", "photo-x2", "--json", "-o")
    preview = command(*arguments, "memory://bucket/out", "--dry-run")
    lines = [json.loads(line) for line in preview.output.splitlines()]
    assert (preview.code, lines[-1]["summary"]["previewed"]) == (1, 6)
    assert not store.exists("/bucket/out")
    outcome = command(*arguments, "memory://bucket/out")
    lines = [json.loads(line) for line in outcome.output.splitlines()]
    assert outcome.code == 1
    assert lines[0]["picture"] == "memory://bucket/in/00.png"
    assert lines[0]["result"] == "memory://bucket/out/00.png"
    summary = lines[-1]["summary"]
    assert (summary["done"], summary["failed"]) == (6, 1)
    assert summary["left_out"][0].startswith("'memory://bucket/in': 1 .heic left out")
    assert "'memory://bucket/in/bad.png'" in outcome.errors
    one = command("enhance", "memory://bucket/in/00.png", "-o", tmp_path / "one.png", "-m", "photo-x2")
    assert one.code == 0
    assert store.cat("/bucket/out/00.png") == (tmp_path / "one.png").read_bytes()
    named = command("enhance", tmp_path / "in/00.png", "-o", "memory://bucket/named.png", "-m", "photo-x2")
    assert named.code == 0
    assert store.cat("/bucket/named.png") == store.cat("/bucket/out/00.png")
    pattern = command("enhance", "memory://bucket/in/**/*1*.png", "-r", "-o", "memory://bucket/some", "-q")
    assert pattern.code == 0
    assert sorted(uploaded(store, "/bucket/some")) == ["01.png", "deep/11.png"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["in", "-o", "https://example.org/out"],
            "cannot write to 'https://example.org/out': https is for reading",
        ),
        (["memory://bucket/none", "-o", "out"], "cannot read 'memory://bucket/none': there is no such file"),
        (
            ["nowhere://bucket/in", "-o", "out"],
            "cannot read 'nowhere://bucket/in': Protocol not known: nowhere",
        ),
        (["-", "-o", "out", "--cluster", "local"], "--cluster enhances files and URLs, not standard input"),
        (["-", "-o", "memory://bucket/out"], "URLs cannot be combined with standard input or output (-)"),
    ],
)
def test_one_line_where_a_url_cannot_be_used(pictures, store, tmp_path, monkeypatch, capsys, words, line):
    monkeypatch.chdir(tmp_path)
    assert line in CommandLine(monkeypatch, capsys).refused("enhance", *words)


def test_without_the_packages_one_line_names_the_extra(pictures, tmp_path, monkeypatch, capsys):
    from onebranch import extras

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    command = CommandLine(monkeypatch, capsys)
    assert (
        "--cluster needs ray and fsspec; install with: pip install 'onebranch[cluster]'"
        in command.refused("enhance", "in", "-o", "out", "--cluster", "10.0.0.1:6379")
    )
    assert "'s3://bucket/in' needs fsspec; install with" in command.refused(
        "enhance", "s3://bucket/in", "-o", "out"
    )


def test_a_node_with_another_version_or_without_the_folder(pictures, tmp_path):
    class Elsewhere(LossyExecutor):
        def __call__(self, setup, pictures, progress):
            return super().__call__(replace(setup, **self.changes), pictures, progress)

    executor = Elsewhere()
    executor.changes = {"version": "0.0"}
    with pytest.raises(OnebranchError, match=r"has onebranch .*, this machine 0\.0; install one version"):
        run(pictures, tmp_path / "out", executor)
    executor.changes = {"marker": "/not/shared/.part"}
    with pytest.raises(OnebranchError, match="does not share the folder '/not/shared'"):
        run(pictures, tmp_path / "out", executor)


def test_a_model_file_travels_with_its_external_data(pictures, tmp_path):
    onnx = pytest.importorskip("onnx")
    from picture_networks import LOCAL

    (tmp_path / "model").mkdir()
    file = tmp_path / "model" / "network.onnx"
    net = LOCAL[0]
    onnx.save_model(
        net.build(net), file, save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    options = Options(model=file, threads=1)
    one = enhance_files([pictures / "00.png"], tmp_path / "one", options)
    assert one.done, one.failed
    travelling = shipped(options)
    for path in (tmp_path / "model").iterdir():
        path.unlink()
    (tmp_path / "elsewhere").mkdir()
    opened = travelling.opened(tmp_path / "elsewhere")
    assert enhance_files([pictures / "00.png"], tmp_path / "many", opened).done
    assert tree(tmp_path / "many") == tree(tmp_path / "one")


def test_what_travels_can_be_pickled(pictures, tmp_path):
    """Ray pickles the setup, with the functions that enhance pictures and clips."""
    mixed = MixedFiles(VideoOptions())
    seen = []

    def open_executor(setup, pictures, progress):
        seen.append(pickle.loads(pickle.dumps(setup)))
        return LossyExecutor()(seen[0], pictures, progress)

    batch = BatchOptions(other=mixed.other_files())
    summary = run(pictures, tmp_path / "out", open_executor, batch=batch, enhance=mixed.enhance)
    assert len(summary.done) == 6
    assert len(pickle.dumps(seen[0])) < 1_000_000
