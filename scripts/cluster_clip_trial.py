"""Enhance one clip on two nodes while a worker and the driver are killed.

    python scripts/cluster_clip_trial.py --segments 8

The clip has B-frames and a variable frame rate. When the first segment is complete, a worker is killed; when
half of them are, the driver, which is then started again with --resume. Checked: the complete segments are
kept, the result is byte for byte that of one machine, and there is nothing else. Needs the packages of
tests/cluster.txt. Exits with 1 if a check fails.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from local_cluster import NodeProcesses, command_of, print_with_time, wait_for
from onebranch.video.segments import SEGMENT_FRAMES

COMMAND = [sys.executable, "-m", "onebranch", "enhance", "--model", "photo-x2"]

HEIGHT, WIDTH = 72, 128

MIN_SEGMENTS = 6
"""With fewer segments, all may be complete before the driver is killed."""

WAITING = {"seconds": 200.0, "interval": 0.02}
"""Seconds in which each share of the segments must appear, and between two looks."""


def run_trial(segments: int, folder: Path, report: Callable[[str], None]) -> list[str]:
    """Run the trial with a clip of that many segments; what is wrong, one line each."""
    source, one, target = folder / "in.mp4", folder / "one.mp4", folder / "out" / "many.mp4"
    write_clip(source, segments * SEGMENT_FRAMES - SEGMENT_FRAMES // 2)
    report("one machine")
    subprocess.run([*COMMAND, str(source), "-o", str(one), "-q"], check=True, capture_output=True)
    with NodeProcesses(2) as nodes:
        report("the cluster")
        kept = interrupted(nodes, source, target, segments, report)
        report(f"{len(kept)} of {segments} segments are complete; the driver resumes")
        process = driver(nodes, source, target)
        wait_for(len(kept) + 1, lambda: complete_segments(target), process, **WAITING)
        problems = [f"{path.name} was written again" for path in kept if _inode(path) != kept[path]]
        output, errors = process.communicate(timeout=WAITING["seconds"])
        report("the driver has ended")
    if process.returncode or json.loads(output.splitlines()[-1])["summary"]["done"] != 1:
        return [*problems, f"the resumed run failed: {output[:300]} {errors[:300]}"]
    if target.read_bytes() != one.read_bytes():
        problems.append("the result differs from that of one machine")
    left = [path.name for path in target.parent.iterdir() if path != target and path.suffix != ".jsonl"]
    return [*problems, *(f"'{name}' is left" for name in left)]


def driver(nodes: NodeProcesses, source: Path, target: Path) -> "subprocess.Popen[str]":
    """The command that enhances the clip on the cluster."""
    words = [str(source), "-o", str(target), "--resume", "--json", "--cluster", nodes.address]
    return subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def interrupted(
    nodes: NodeProcesses, source: Path, target: Path, segments: int, report: Callable[[str], None]
) -> dict[Path, int]:
    """Start the command, kill a worker and the command; the complete segments, with their inodes."""
    process = driver(nodes, source, target)
    try:
        wait_for(1, lambda: complete_segments(target), process, **WAITING)
        while not nodes.kill_worker():
            time.sleep(0.01)
        report("a worker is killed")
        wait_for(segments // 2, lambda: complete_segments(target), process, **WAITING)
    finally:
        process.kill()
        process.communicate()
    report("the driver is killed")
    while any("run_task" in command_of(worker) for worker in nodes.workers()):
        time.sleep(0.05)
    return {path: _inode(path) for path in complete_segments(target)}


def complete_segments(target: Path) -> list[Path]:
    """The files that show which segments are complete."""
    return sorted((target.parent / f".{target.name}.segments").glob("[0-9]*.json"))


def _inode(path: Path) -> int:
    return path.stat().st_ino if path.exists() else 0


def write_clip(path: Path, frames: int) -> None:
    """A clip of moving texture, with B-frames; every fourth frame is shown late."""
    import av

    rows, columns = np.mgrid[: HEIGHT * 3 // 2, :WIDTH]
    with av.open(path, "w") as container:
        options = {"bf": "3", "g": "48"}
        stream: Any = container.add_stream("libx264", rate=25, width=WIDTH, height=HEIGHT, options=options)
        stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, 75)
        for number in range(frames):
            planes = (60 + (rows * 7 + columns * (3 + number % 5) + 2 * number) % 120).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(planes, "yuv420p")
            frame.pts, frame.time_base = 3 * number + (number % 4 == 1), Fraction(1, 75)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def main() -> None:
    """Run the trial and print what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--segments", type=int, default=8)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        problems = run_trial(max(MIN_SEGMENTS, arguments.segments), Path(folder), print_with_time())
    for problem in problems:
        print(problem)
    print(f"{len(problems)} problems")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
