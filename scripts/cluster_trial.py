"""Enhance many small pictures on two nodes and a local S3 while a worker, a node and the driver are killed.

    python scripts/cluster_trial.py --pictures 2000

At a quarter of the results a worker is killed, at a half a node, at three quarters the driver, which is then
started again with --resume. Checked: every result exists once and is byte for byte that of one machine, there
is nothing else, the manifest has the digest of every result, and the pictures that cannot be read are
reported. Needs the packages of tests/cluster.txt. Exits with 1 if a check fails.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from local_cluster import NodeProcesses, print_with_time, s3_server, wait_for
from onebranch.images.picture import Picture
from onebranch.images.writing import write

BUCKET = "trial"
SUFFIXES = (".png", ".jpg", ".webp", ".tif")
UNREADABLE = 2
"""Number of files with the name of a picture that are none."""

WAITING = {"seconds": 300.0, "interval": 0.5}
"""Seconds in which each share of the results must appear, and between two looks."""


@dataclass(frozen=True)
class Trial:
    """What a trial has shown. problems: what is wrong, one line each."""

    pictures: int
    skipped: int
    done: int
    failed: int
    seconds: float
    problems: tuple[str, ...]


def run_trial(pictures: int, folder: Path, report: Callable[[str], None]) -> Trial:
    """Run the trial with that number of pictures; folder: for pictures and the results of one machine."""
    import fsspec

    source, one = folder / "in", folder / "one"
    write_pictures(source, pictures)
    report("one machine")
    subprocess.run([*COMMAND, str(source), "-r", "-o", str(one), "-q"], check=False, capture_output=True)
    with s3_server(), NodeProcesses(2) as nodes:
        store = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)
        store.mkdir(BUCKET)
        store.call_s3("put_bucket_versioning", Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        report("uploading")
        store.put(f"{source}/", f"{BUCKET}/in/", recursive=True)
        begin = time.monotonic()
        interrupted(nodes, store, pictures, report)
        summary, errors = finished(nodes, report)
        seconds = time.monotonic() - begin
        problems = tuple(problems_of(store, one, summary, errors, pictures))
    return Trial(pictures, summary["skipped"], summary["done"], summary["failed"], seconds, problems)


COMMAND = [sys.executable, "-m", "onebranch", "enhance", "--model", "photo-x2"]


def driver(nodes: NodeProcesses, output: int = subprocess.PIPE) -> "subprocess.Popen[str]":
    """The command that enhances all pictures on the cluster. Whoever passes a pipe reads it all the time."""
    words = [f"s3://{BUCKET}/in", "-r", "-o", f"s3://{BUCKET}/out", "--resume", "--json"]
    return subprocess.Popen(
        [*COMMAND, *words, "--cluster", nodes.address],
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
    )


def interrupted(nodes: NodeProcesses, store: Any, pictures: int, report: Callable[[str], None]) -> None:
    """Start the command, and kill a worker, a node and the command itself."""
    process = driver(nodes, subprocess.DEVNULL)
    try:
        wait_for(pictures // 4, lambda: results_in(store), process, **WAITING)
        while not nodes.kill_worker():
            time.sleep(0.01)
        report("a worker is killed")
        wait_for(pictures // 2, lambda: results_in(store), process, **WAITING)
        nodes.kill_node()
        report("a node is killed")
        wait_for(3 * pictures // 4, lambda: results_in(store), process, **WAITING)
    finally:
        process.kill()
        process.communicate()
    report("the driver is killed")


def finished(nodes: NodeProcesses, report: Callable[[str], None]) -> tuple[dict[str, Any], str]:
    """Start the command again; its summary and what it prints on stderr."""
    output, errors = driver(nodes).communicate(timeout=WAITING["seconds"])
    report("the driver has resumed")
    lines = output.splitlines()
    if not lines:
        raise RuntimeError(errors)
    summary: dict[str, Any] = json.loads(lines[-1])["summary"]
    return summary, errors


def results_in(store: Any) -> list[str]:
    """The keys of all results."""
    return [key for key in store.find(f"{BUCKET}/out") if not key.endswith(".jsonl")]


def problems_of(store: Any, one: Path, summary: dict[str, Any], errors: str, pictures: int) -> list[str]:
    """What differs from the results of one machine."""
    expected = {f.relative_to(one).as_posix(): f.read_bytes() for f in one.rglob("*") if f.is_file()}
    results = {key.removeprefix(f"{BUCKET}/out/"): store.cat(key) for key in results_in(store)}
    problems = [f"'{name}' differs" for name in expected if results.get(name) != expected[name]]
    if results.keys() != expected.keys() or len(expected) != pictures:
        problems.append(f"{len(results)} results, {len(expected)} of one machine, {pictures} pictures")
    problems += [*repeated(store), *unrecorded(store, results)]
    if summary["failed"] != UNREADABLE or errors.count("cannot read 's3://") != UNREADABLE:
        problems.append(f"{summary['failed']} failures, {UNREADABLE} expected: {errors[:300]}")
    if summary["done"] + summary["skipped"] != pictures:
        problems.append(f"the summary has {summary['done']} done and {summary['skipped']} skipped")
    return problems


def repeated(store: Any) -> list[str]:
    """Results that were written more than once: the bucket keeps all versions."""
    versions = store.call_s3("list_object_versions", Bucket=BUCKET, Prefix="out/")["Versions"]
    keys = [version["Key"] for version in versions if not version["Key"].endswith(".jsonl")]
    return [f"'{key}' was written {keys.count(key)} times" for key in set(keys) if keys.count(key) > 1]


def unrecorded(store: Any, results: dict[str, bytes]) -> list[str]:
    """The results without a record of their digest."""
    digests = digests_in(store)
    return [
        f"'{name}' has no record with its digest"
        for name, content in results.items()
        if hashlib.blake2b(content, digest_size=16).hexdigest() not in digests.get(name, ())
    ]


def digests_in(store: Any) -> dict[str, set[str]]:
    """The recorded digests of every result."""
    digests: dict[str, set[str]] = {}
    for part in store.glob(f"{BUCKET}/out/onebranch*.jsonl"):
        for line in store.cat(part).splitlines():
            record = json.loads(line)
            digests.setdefault(record["target"], set()).add(record["result"]["digest"])
    return digests


def write_pictures(folder: Path, count: int) -> None:
    """Small pictures of several formats in subfolders, and files that are none."""
    random = np.random.default_rng(1)
    for number in range(count):
        file = folder / f"{number % 7}" / f"{number:06}{SUFFIXES[number % len(SUFFIXES)]}"
        file.parent.mkdir(parents=True, exist_ok=True)
        write(Picture(random.integers(0, 256, (12, 10 + number % 9, 3), np.uint8)), file)
    for number in range(UNREADABLE):
        (folder / f"unreadable-{number}.png").write_bytes(b"no picture")


def main() -> None:
    """Run the trial and print what it has shown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pictures", type=int, default=2000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trial = run_trial(arguments.pictures, Path(folder), print_with_time())
    print(
        f"{trial.pictures} pictures in {trial.seconds:.1f} s, of which the resumed run skipped"
        f" {trial.skipped}, enhanced {trial.done} and reported {trial.failed}"
    )
    for problem in trial.problems[:20]:
        print(problem)
    print(f"{len(trial.problems)} problems")
    sys.exit(1 if trial.problems else 0)


if __name__ == "__main__":
    main()
