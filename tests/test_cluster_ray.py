"""A Ray cluster of two node processes and a local S3: a worker, a node and the driver are killed."""

import importlib.util
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import ENVIRONMENT
from onebranch.cluster.ray_executor import connected
from onebranch.errors import OnebranchError

MISSING = [name for name in ("ray", "s3fs", "moto") if importlib.util.find_spec(name) is None]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}: pip install -r tests/cluster.txt"),
]

ROOT = Path(__file__).resolve().parent.parent

PROMPT = {**ENVIRONMENT, "RAY_worker_niceness": "0"}
"""The environment in which workers do not yield to other tests."""


def test_every_result_once_although_a_worker_a_node_and_the_driver_are_killed():
    """In a process of its own, because Ray starts threads and processes. `--pictures 2000`: as promised."""
    command = [sys.executable, str(ROOT / "scripts" / "cluster_trial.py"), "--pictures", "160"]
    trial = subprocess.run(command, env=PROMPT, capture_output=True, text=True, timeout=300, check=False)
    assert trial.returncode == 0, trial.stdout + trial.stderr
    assert "0 problems" in trial.stdout


def test_a_clip_is_that_of_one_machine_although_a_worker_and_the_driver_are_killed():
    """Eight segments of 120 frames, several at a time, in a process of its own."""
    command = [sys.executable, str(ROOT / "scripts" / "cluster_clip_trial.py"), "--segments", "8"]
    trial = subprocess.run(command, env=PROMPT, capture_output=True, text=True, timeout=300, check=False)
    assert trial.returncode == 0, trial.stdout + trial.stderr
    assert "0 problems" in trial.stdout


def test_ray_on_this_machine_gives_the_results_of_one_machine(tmp_path):
    photograph = ROOT / "tests" / "data" / "sand.png"
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "in" / name).write_bytes(photograph.read_bytes())
    (tmp_path / "in" / "bad.png").write_bytes(b"no picture")
    outputs = []
    for out, options in (("one", []), ("many", ["--cluster", "local"])):
        words = [sys.executable, "-m", "onebranch", "enhance", "in", "-o", out, "--json", *options]
        run = subprocess.run(
            words, cwd=tmp_path, env=PROMPT, capture_output=True, text=True, timeout=120, check=False
        )
        assert run.returncode == 1, run.stderr
        assert run.stderr.count("\n") == 1, run.stderr
        outputs.append((run.stderr, [json.loads(line) for line in run.stdout.splitlines()]))
        assert not list((tmp_path / out).glob(".*"))
    (one_errors, one), (many_errors, many) = outputs
    assert many_errors == one_errors
    for mine, theirs in zip(one[:-1], many[:-1], strict=True):
        for values in (mine, theirs):
            values.pop("seconds", None)
            values["result"] = Path(values["result"]).name
        assert theirs == mine
    for name in ("a.png", "b.png"):
        assert (tmp_path / "many" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


def test_a_cluster_that_ray_does_not_reach_or_start(monkeypatch):
    """The way out depends on what was asked for."""
    import ray

    def refuse(**options):
        raise ConnectionError("Failed to connect")

    monkeypatch.setattr(ray, "init", refuse)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(OnebranchError, match=f"{address}': Failed to connect; .*RAY_AUTH_MODE=token"):
            connected(address)
    with pytest.raises(OnebranchError, match="Ray does not start on this machine: Failed to connect; try"):
        connected("local")


def test_an_address_without_a_cluster_is_one_line(tmp_path):
    words = [sys.executable, "-m", "onebranch", "enhance", str(ROOT / "tests" / "data" / "sand.png")]
    run = subprocess.run(
        [*words, "-o", str(tmp_path / "a.png"), "--cluster", "127.0.0.1:1"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 2
    assert "onebranch: cannot connect to the Ray cluster '127.0.0.1:1'" in run.stderr
    assert run.stderr.count("\n") == 1
