"""Mixed load on a service of its own, on the loopback interface.

    python scripts/load.py [--seconds 600] [--workers 2] [--clients N]

Twice as many clients as the service takes at a time send good pictures, broken and hostile ones, requests
that they abort, and jobs that they cancel. Prints percentiles, statuses and memory. Exits with 1 if an answer
is not 2xx, 4xx or 503, if an accepted picture got no complete answer, or if the service's memory grew.
"""

import argparse
import json
import random
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from service import RunningService, children, gif, large_header, png, running

QUEUE = 4
WARM_UP_SHARE = 0.25
"""Share of the time after which memory must not grow any more."""

MAX_GROWTH_BYTES = 40_000_000
"""Growth of the service's memory that is allowed after that: caches, and fragments of the allocator."""

MAX_END_SECONDS = 15.0
"""Time in which all processes of pictures must end after the last request."""

GOOD = [png(64, 48), png(200, 150), png(31, 17), gif(3)]
QUERIES = ["", "?scale=2", "?scale=1.5", "?model=denoise", "?width=100&quality=80", "?precision=int8"]
ACCEPTED = ["", "image/png", "image/webp", "image/jpeg", "image/*"]
HOSTILE = [
    *(b"", b"\0" * 5000, b"%PDF-1.7", b"GIF89a" + b"\xff" * 200, large_header(60, 60)),
    *(large_header(100_000, 100_000), large_header(9000, 9000), GOOD[0][:200], GOOD[0] + b"\0" * 1000),
    *(b"II*\0\xff\xff\xff\xff", b"RIFF\xff\xff\xff\xffWEBPVP8X", b"\0\0\0\x20ftypavif" + b"\xff" * 64),
]
HOSTILE_QUERIES = ["", "?scale=16", "?model=../../etc/passwd", "?width=999999&height=999999", "?scale=1e400"]


@dataclass
class Results:
    """What the clients saw. problems: what must not happen."""

    seconds: list[float] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def note(self, kind: str, status: int, complete: bool, seconds: float) -> None:
        """Count one answer."""
        self.outcomes[f"{kind} {status}"] += 1
        if status == 200:
            self.seconds.append(seconds)
        if not (200 <= status < 300 or 400 <= status < 500 or status == 503):
            self.problems.append(f"{kind}: status {status}")
        if not complete and kind == "good":
            self.problems.append(f"{kind}: the answer was not complete")


def client(service: RunningService, results: Results, chance: random.Random, end: float) -> None:
    """Send requests until the end."""
    kinds = [good, good, good, hostile, hostile, aborted, job]
    while time.monotonic() < end:
        kind = chance.choice(kinds)
        begin = time.monotonic()
        try:
            kind(service, results, chance)
        except OSError as error:
            if kind is not aborted and time.monotonic() < end:
                results.problems.append(f"{kind.__name__}: {type(error).__name__} {error}")
        if time.monotonic() - begin < 0.01:
            time.sleep(0.01)


def good(service: RunningService, results: Results, chance: random.Random) -> None:
    """A picture that can be enhanced."""
    begin = time.monotonic()
    accept = {"accept": chance.choice(ACCEPTED)}
    reply = service.enhance(chance.choice(GOOD), chance.choice(QUERIES), **accept)
    results.note("good", reply.status, reply.complete, time.monotonic() - begin)


def hostile(service: RunningService, results: Results, chance: random.Random) -> None:
    """A picture or a query that is broken or malicious."""
    content = bytearray(chance.choice([*HOSTILE, *GOOD]))
    for _ in range(min(3, len(content))):
        content[chance.randrange(len(content))] = chance.randrange(256)
    reply = service.enhance(bytes(content), chance.choice(HOSTILE_QUERIES))
    results.note("hostile", reply.status, True, 0)


def aborted(service: RunningService, results: Results, chance: random.Random) -> None:
    """A request whose connection is closed during the body or the answer."""
    connection = service.connect()
    body = chance.choice(GOOD)
    connection.putrequest("POST", "/v1/enhance")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    connection.send(body[: chance.choice([0, 10, len(body)])])
    time.sleep(chance.choice([0, 0.05, 0.3]))
    connection.close()
    results.outcomes["aborted"] += 1


def job(service: RunningService, results: Results, chance: random.Random) -> None:
    """A job that is followed to its end, or cancelled."""
    started = service.ask("POST", "/v1/jobs", chance.choice(GOOD), content_type="image/png")
    results.note("job", started.status, started.complete, 0)
    if started.status != 202:
        return
    path = started.headers["location"]
    if chance.random() < 0.5:
        state = service.finished_job(path.rsplit("/", 1)[1])["state"]
        results.outcomes[f"job {state}"] += 1
        if state != "done":
            results.problems.append(f"job: {state}")
    service.ask("DELETE", path)


def memory_of(service: RunningService) -> int:
    """Bytes of memory that the service and the process from which others are forked take."""
    pids = [service.process.pid, *children(service.process.pid)]
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 for pid in pids)


def watch_memory(service: RunningService, seconds: float) -> list[int]:
    """The memory at regular moments, until the end."""
    samples = []
    for _ in range(20):
        time.sleep(seconds / 20)
        samples.append(memory_of(service))
    return samples


def remaining_processes(service: RunningService) -> list[int]:
    """Processes of pictures that have not ended some seconds after the last request."""
    end = time.monotonic() + MAX_END_SECONDS
    while service.worker_pids() and time.monotonic() < end:
        time.sleep(0.1)
    pids: list[int] = service.worker_pids()
    return pids


def report(results: Results, samples: list[int]) -> bool:
    """Print what happened; whether it is as it should be."""
    settled = samples[int(len(samples) * WARM_UP_SHARE)]
    growth = max(samples[int(len(samples) * WARM_UP_SHARE) :]) - settled
    if growth > MAX_GROWTH_BYTES:
        results.problems.append(f"memory grew by {growth / 1e6:.0f} MB")
    if not results.seconds:
        results.problems.append("no picture was enhanced")
    times = sorted(results.seconds) or [0.0]
    shares = {share: times[min(len(times) - 1, int(len(times) * share))] for share in (0.5, 0.9, 0.99, 1)}
    print(f"{len(results.seconds)} enhanced pictures, seconds:", end=" ")
    print(", ".join(f"{100 * share:.0f} %: {seconds:.2f}" for share, seconds in shares.items()))
    print(json.dumps(dict(sorted(results.outcomes.items()))))
    print(f"memory: {settled / 1e6:.0f} MB, then at most {growth / 1e6:+.0f} MB")
    for problem, count in Counter(results.problems).most_common(20):
        print(f"PROBLEM {count} x {problem}")
    return not results.problems


def main() -> None:
    """Start a service and its clients."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--clients", type=int)
    arguments = parser.parse_args()
    clients = arguments.clients or 2 * (arguments.workers + QUEUE)
    limits = ("--max-queue", QUEUE, "--max-client-requests", clients, "--max-result-seconds", 5)
    results = Results()
    with running("--workers", arguments.workers, *limits) as service:
        end = time.monotonic() + arguments.seconds
        threads = [
            threading.Thread(target=client, args=(service, results, random.Random(seed), end))
            for seed in range(clients)
        ]
        for thread in threads:
            thread.start()
        samples = watch_memory(service, arguments.seconds)
        for thread in threads:
            thread.join()
        leftover = remaining_processes(service)
        mistakes = service.logged(level="error", message="internal error")
    results.problems += [f"mistake: {line.get('traceback', '')[-300:]}" for line in mistakes]
    results.problems += ["processes of pictures are left"] * bool(leftover)
    sys.exit(0 if report(results, samples) else 1)


if __name__ == "__main__":
    main()
