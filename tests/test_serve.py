"""The service: what it answers, what it refuses and why, and that one picture cannot harm another."""

import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the extra 'serve' is not installed: the service was not tested")

from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.options import Options
from onebranch.enhancer.single_file import FileOptions, enhance_file
from onebranch.images.encoders.encoding import Encoding
from onebranch.serve.limits import ServiceLimits, limits_table
from onebranch.serve.preload import FORK_SERVER
from service import RunningService, gif, large_header, png, running

SMALL_LIMITS = (
    *("--max-body-bytes", 200_000, "--max-input-pixels", 40_000, "--max-output-pixels", 100_000),
    *("--max-frames", 3, "--max-body-seconds", 2, "--max-header-seconds", 2, "--max-header-bytes", 4096),
)


@pytest.fixture(scope="module")
def service():
    """A service with small limits."""
    with running(*SMALL_LIMITS, "--max-client-requests", 8) as one:
        yield one


def test_a_picture_gives_the_bytes_of_the_command_line(service: RunningService, tmp_path: Path) -> None:
    (tmp_path / "in.png").write_bytes(png())
    enhancer = Enhancer(Options(model="photo-x2"))
    enhance_file(
        tmp_path / "in.png", tmp_path / "out.png", enhancer, FileOptions(Encoding(strip_location=True))
    )
    reply = service.enhance(png(), "?model=photo-x2")
    assert (reply.status, reply.headers["content-type"]) == (200, "image/png")
    assert reply.headers["onebranch-size"] == "48x32"
    assert reply.body == (tmp_path / "out.png").read_bytes()


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "PNG"),
        ("*/*", "PNG"),
        ("image/webp", "WEBP"),
        ("image/jpeg, image/webp;q=0.5", "JPEG"),
        ("image/tiff", "TIFF"),
        ("image/x-portable-pixmap", "PPM"),
        ("image/avif;q=0, image/*", "PNG"),
    ],
)
def test_accept_chooses_the_format(service: RunningService, accept: str, kind: str) -> None:
    reply = service.enhance(png(), "?model=photo-x2", accept=accept)
    with Image.open(io.BytesIO(reply.body)) as picture:
        assert (picture.format, picture.size) == (kind, (48, 32))
        assert Image.MIME[kind] == reply.headers["content-type"] or kind == "PPM"


def test_an_animation_stays_one(service: RunningService) -> None:
    reply = service.enhance(gif(3), content_type="image/gif")
    with Image.open(io.BytesIO(reply.body)) as picture:
        assert (picture.n_frames, picture.size) == (3, (16, 16))


def test_the_location_is_removed_unless_asked_for(service: RunningService) -> None:
    exif = Image.Exif()
    exif[0x010F] = "camera"
    exif.get_ifd(0x8825)[1] = "N"
    content = png(exif=exif)
    for query, kept in (("", False), ("?keep_location=true", True)):
        with Image.open(io.BytesIO(service.enhance(content, query).body)) as picture:
            assert picture.getexif()[0x010F] == "camera"
            assert bool(picture.getexif().get_ifd(0x8825)) is kept


REFUSED = {
    "accept": (406, "", {"accept": "text/html"}, png()),
    "content_type": (415, "", {"content_type": "multipart/form-data"}, png()),
    "content_encoding": (415, "", {"content_encoding": "gzip"}, png()),
    "not_a_picture": (415, "", {}, b"%PDF-1.7 and so on"),
    "empty": (415, "", {}, b""),
    "damaged": (422, "", {}, large_header(60, 60)),
    "model": (422, "?model=photo-x9", {}, png()),
    "parameters": (422, "?scale=2&width=100", {}, png()),
    "body_bytes": (413, "", {}, b"\x89PNG\r\n\x1a\n" + bytes(200_000)),
    "input_pixels": (413, "", {}, large_header(50_000, 40_000)),
    "output_pixels": (413, "?scale=16", {}, png(100, 100)),
    "frames": (413, "", {}, gif(4)),
    "cross_site": (403, "", {"sec_fetch_site": "cross-site"}, png()),
    "host": (400, "", {"host": "evil.example"}, png()),
}
"""For each reason its status, and a request that is refused for it."""


@pytest.mark.parametrize("reason", REFUSED)
def test_every_refusal_has_its_status_and_reason(service: RunningService, reason: str) -> None:
    status, query, headers, body = REFUSED[reason]
    reply = service.enhance(body, query, **headers)
    assert (reply.status, reply.reason) == (status, reason)
    assert reply.headers["x-content-type-options"] == "nosniff"
    metrics = service.ask("GET", "/metrics").body.decode()
    assert f'onebranch_refusals_total{{reason="{reason}"}}' in metrics
    assert "/tmp" not in reply.body.decode()


@pytest.mark.parametrize(
    "query",
    [
        "?scale=0",
        "?scale=17",
        "?scale=nan",
        "?width=0",
        "?quality=101",
        "?precision=fp64",
        "?unknown=1",
        "?model=../../etc/passwd",
        "?model=/etc/passwd",
        "?model=photo-x2%00.safetensors",
        "?model=" + "x" * 2000,
        "?precision=int8&model=photo-x2-branches",
    ],
)
def test_wrong_parameters_are_refused_before_the_picture_is_read(service: RunningService, query: str) -> None:
    reply = service.enhance(png(), query)
    assert (reply.status, reply.reason in ("parameters", "model")) == (422, True)
    assert len(reply.body) < 1000


def test_a_body_without_a_length_is_limited_too(service: RunningService) -> None:
    pieces = (bytes(10_000) for _ in range(100))
    reply = service.ask("POST", "/v1/enhance", pieces, content_type="image/png")
    assert (reply.status, reply.reason) == (413, "body_bytes")


def test_a_slow_body_is_refused(service: RunningService) -> None:
    with socket.create_connection(("127.0.0.1", service.port), 20) as connection:
        connection.sendall(b"POST /v1/enhance HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc")
        assert connection.recv(100).startswith(b"HTTP/1.1 408 ")


def test_a_slow_header_closes_the_connection(service: RunningService) -> None:
    begin = time.monotonic()
    with socket.create_connection(("127.0.0.1", service.port), 20) as connection:
        connection.sendall(b"POST /v1/enhance HTTP/1.1\r\nHost: localhost\r\n")
        while time.monotonic() - begin < 15:
            try:
                connection.sendall(b"X-Slow: 1\r\n")
                time.sleep(0.2)
            except OSError:
                break
    assert 1 < time.monotonic() - begin < 12


def test_a_huge_header_is_refused(service: RunningService) -> None:
    reply = service.ask("GET", "/healthz", x_padding="x" * 100_000)
    assert (reply.status, reply.reason) == (431, "header_bytes")


def test_request_ids_are_kept_if_they_are_harmless(service: RunningService) -> None:
    assert service.ask("GET", "/healthz", x_request_id="abc-1").headers["x-request-id"] == "abc-1"
    odd = service.ask("GET", "/healthz", x_request_id="a b\t{}").headers["x-request-id"]
    assert odd != "a b\t{}"
    assert service.logged(request="abc-1", path="/healthz", status=200, level="info")


def test_the_page_is_at_the_root(service: RunningService) -> None:
    page = service.ask("GET", "/")
    assert page.headers["content-type"].startswith("text/html")
    assert "script-src 'self' 'wasm-unsafe-eval'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    for name, kind in {"onebranch.mjs": "text/javascript", "engine.wasm": "application/wasm"}.items():
        assert service.ask("GET", f"/{name}").headers["content-type"].startswith(kind)
    models = service.ask("GET", "/models.json").json()
    assert service.ask("GET", f"/{models[0]['file']}").status == 200
    again = service.ask("GET", "/", if_none_match=page.headers["etag"])
    assert again.status == 304


@pytest.mark.parametrize(
    "path", ["/nothing", "/v1/x", "/../pyproject.toml", "/%2e%2e/%2e%2e/etc/passwd", "/..%5cx", "/models/%00"]
)
def test_unknown_paths_are_not_found(service: RunningService, path: str) -> None:
    reply = service.ask("GET", path)
    assert (reply.status, reply.reason) == (404, "no_route")


def test_models_and_health_and_openapi(service: RunningService) -> None:
    names = [model["name"] for model in service.ask("GET", "/v1/models").json()]
    assert {"photo-x2", "restore-x2", "denoise"} <= set(names)
    assert service.ask("GET", "/healthz").json() == {"status": "ok"}
    assert service.ask("GET", "/readyz").json() == {"status": "ok"}
    assert "/v1/enhance" in service.ask("GET", "/openapi.json").json()["paths"]
    assert service.ask("DELETE", "/v1/models").reason == "method"
    assert service.ask("GET", "/docs").status == 404


def test_a_job_reports_its_progress_and_gives_its_result(service: RunningService) -> None:
    started = service.ask("POST", "/v1/jobs?model=photo-x2", png(), accept="image/webp")
    assert started.status == 202
    path = started.headers["location"]
    events = service.ask("GET", f"{path}/events").body.decode().split("\n\n")
    jobs = [json.loads(event.removeprefix("data: ")) for event in events if event.startswith("data: ")]
    assert jobs[-1]["state"] == "done"
    assert [job["progress"] for job in jobs] == sorted(job["progress"] for job in jobs)
    result = service.ask("GET", jobs[-1]["result"])
    assert (result.status, result.headers["content-type"]) == (200, "image/webp")
    assert Image.open(io.BytesIO(result.body)).size == (48, 32)
    assert service.ask("DELETE", path).status == 204
    assert service.ask("GET", path).reason == "no_job"


def test_a_job_that_fails_says_why(service: RunningService) -> None:
    name = service.ask("POST", "/v1/jobs", b"not a picture", content_type="image/png").json()["id"]
    job = service.finished_job(name)
    assert (job["state"], job["problem"]["reason"]) == ("failed", "not_a_picture")
    assert service.ask("GET", f"/v1/jobs/{name}/result").reason == "not_finished"
    assert service.ask("GET", "/v1/jobs/..%2f..%2fetc%2fpasswd").status == 404
    assert service.ask("GET", "/v1/jobs/x/result").reason == "no_job"


@pytest.mark.slow
def test_a_large_result_arrives_before_it_is_complete_and_may_be_aborted() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (1500, 1000, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG", compress_level=0)
    with running("--workers", 1) as service:
        connection = service.connect()
        connection.request(
            "POST", "/v1/enhance?model=photo-x2", file.getvalue(), {"Content-Type": "image/png"}
        )
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.getheader("transfer-encoding") == "chunked"
        answer.read(100)
        service.wait_for_workers(1)
        connection.sock.close() if connection.sock else None
        answer.close()
        connection.close()
        service.wait_for_workers(0)
        assert service.enhance(png()).status == 200


@pytest.mark.slow
def test_a_process_that_is_killed_ends_only_its_own_answer() -> None:
    with running("--workers", 2, "--max-connections", 5) as service:
        connection = service.connect()
        kind = {"Content-Type": "image/png", "X-Request-ID": "killed"}
        connection.request("POST", "/v1/enhance?model=photo-x2", png(1500, 1000, compress_level=0), kind)
        answer = connection.getresponse()
        answer.read(50)
        os.kill(service.wait_for_workers(1)[0], signal.SIGKILL)
        with pytest.raises(http.client.IncompleteRead):
            answer.read()
        connection.close()
        assert service.enhance(png()).status == 200
        assert service.logged(request="killed", status=200, reason="worker_ended")
        others = [socket.create_connection(("127.0.0.1", service.port), 5) for _ in range(5)]
        with pytest.raises(OSError, match=r"reset|closed|Remote end"):
            service.ask("GET", "/healthz")
        for other in others:
            other.close()


def slow_picture() -> bytes:
    """A picture that takes seconds with a self-ensemble."""
    return png(1400, 1000)


@pytest.mark.slow
def test_queue_clients_kills_and_cancellation() -> None:
    limits = ("--max-client-requests", 2, "--max-queue", 0, "--workers", 2)
    with running(*limits, "--max-jobs", 3) as service:
        query = "?self_ensemble=true&model=restore-x2"
        first = service.ask("POST", f"/v1/jobs{query}", slow_picture()).json()["id"]
        second = service.ask("POST", f"/v1/jobs{query}", slow_picture()).json()["id"]
        refused = service.enhance(png())
        assert (refused.status, refused.reason) == (429, "client_requests")
        assert int(refused.headers["retry-after"]) > 0
        os.kill(min(service.wait_for_workers(2)), signal.SIGKILL)
        deadline = time.monotonic() + 20
        states: dict[str, str] = {}
        while "failed" not in states.values() and time.monotonic() < deadline:
            states = {
                name: service.ask("GET", f"/v1/jobs/{name}").json()["state"] for name in (first, second)
            }
        assert sorted(states.values()) == ["failed", "running"]
        failed = next(name for name, state in states.items() if state == "failed")
        assert service.ask("GET", f"/v1/jobs/{failed}").json()["problem"]["reason"] == "worker_ended"
        other = next(name for name, state in states.items() if state == "running")
        assert service.ask("DELETE", f"/v1/jobs/{other}").status == 204
        assert service.enhance(png()).status == 200
        assert service.ask("DELETE", f"/v1/jobs/{other}").reason == "no_job"


@pytest.mark.slow
def test_a_full_queue_and_full_storage() -> None:
    limits = ("--max-client-requests", 9, "--max-queue", 1, "--workers", 1, "--max-jobs", 2)
    with running(*limits) as service:
        query = "/v1/jobs?self_ensemble=true&model=restore-x2"
        names = [service.ask("POST", query, slow_picture()).json()["id"] for _ in range(2)]
        refused = service.enhance(png())
        assert (refused.status, refused.reason) == (503, "queue")
        assert "retry-after" in refused.headers
        assert service.ask("POST", "/v1/jobs", png()).reason == "jobs"
        for name in names:
            service.ask("DELETE", f"/v1/jobs/{name}")
    with running("--max-stored-bytes", 8000, "--max-result-seconds", 2) as service:
        name = service.ask("POST", "/v1/jobs", png()).json()["id"]
        assert service.finished_job(name)["state"] == "done"
        second = service.finished_job(service.ask("POST", "/v1/jobs", png()).json()["id"])
        assert second["problem"]["reason"] == "stored_bytes"
        time.sleep(2.2)
        assert service.ask("GET", f"/v1/jobs/{name}").reason == "no_job"


@pytest.mark.slow
def test_time_and_memory_of_one_picture_are_limited() -> None:
    with running("--max-seconds", 1, "--max-memory", 90_000_000, "--workers", 1) as service:
        late = service.ask("POST", "/v1/jobs?self_ensemble=true&model=restore-x2", slow_picture()).json()[
            "id"
        ]
        job = service.finished_job(late)
        assert job["problem"]["reason"] in ("seconds", "memory")
        much = service.enhance(png(1200, 900), "?wrap=true", accept="image/avif")
        assert (much.status, much.reason) == (413, "memory")
        assert service.enhance(png()).status == 200


@pytest.mark.slow
def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    # That scale and width contradict, OpenAPI cannot say: a request with both is valid for schemathesis.
    options = ("--max-examples", "4", "--phases", "coverage,fuzzing", "--no-color")
    checks = ("--exclude-checks", "positive_data_acceptance")
    program = Path(sys.executable).parent / "schemathesis"
    hooks = {"PYTHONPATH": str(Path(__file__).parent), "SCHEMATHESIS_HOOKS": "schemathesis_hooks"}
    with running("--max-client-requests", 50, "--max-jobs", 100_000) as service:
        address = f"http://127.0.0.1:{service.port}/openapi.json"
        done = subprocess.run(
            [program, "run", address, *options, *checks],
            env=os.environ | hooks,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
        assert "10 passed" in done.stdout
        assert not service.logged(message="internal error")


@pytest.mark.slow
def test_mixed_load_is_answered() -> None:
    script = Path(__file__).parent.parent / "scripts" / "load.py"
    done = subprocess.run(
        [sys.executable, script, "--seconds", "20"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "enhanced pictures, seconds:" in done.stdout


@pytest.mark.slow
def test_sigterm_finishes_what_was_accepted() -> None:
    with running("--workers", 1) as service:
        name = service.ask("POST", "/v1/jobs?model=photo-x2", png(300, 300)).json()["id"]
        service.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 10
        while service.ask("GET", "/readyz").status != 503 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert service.enhance(png()).reason == "closing"
        assert service.finished_job(name)["state"] == "done"
        assert service.ask("GET", f"/v1/jobs/{name}/result").status == 200
        assert service.process.wait(20) == 0


@pytest.mark.slow
def test_deleting_a_job_while_it_is_fetched_is_no_mistake_of_the_service() -> None:
    with running("--workers", 1) as service:
        statuses = []
        for _ in range(6):
            name = service.ask("POST", "/v1/jobs?model=photo-x2", png()).json()["id"]
            service.finished_job(name)
            requests = [("GET", "/result"), ("DELETE", ""), ("GET", "/result"), ("DELETE", "")]
            with ThreadPoolExecutor(4) as pool:
                ask = [pool.submit(service.ask, method, f"/v1/jobs/{name}{end}") for method, end in requests]
                statuses += [each.result().status for each in ask]
        assert set(statuses) <= {200, 204, 404}
        assert not service.logged(message="internal error")


def test_ranges_of_results(service: RunningService) -> None:
    name = service.ask("POST", "/v1/jobs?model=photo-x2", png()).json()["id"]
    service.finished_job(name)
    part = service.ask("GET", f"/v1/jobs/{name}/result", range="bytes=1-3")
    assert (part.status, part.body) == (206, b"PNG")
    for given, status in {"bytes=99999999-": 416, "bytes=5-2": 400, "words=0-": 400}.items():
        refused = service.ask("GET", f"/v1/jobs/{name}/result", range=given)
        assert (refused.status, refused.reason) == (status, "range")
    service.ask("DELETE", f"/v1/jobs/{name}")


def test_two_lengths_of_a_body_are_refused(service: RunningService) -> None:
    """What follows the body must not be taken for another request by a proxy or by the service."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall(
            b"POST /v1/enhance HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        )
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 400 ") and b"two_lengths" in answer
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.slow
def test_one_client_cannot_take_all_connections() -> None:
    with running("--max-client-connections", 3) as service:
        held = [socket.create_connection(("127.0.0.1", service.port), timeout=20) for _ in range(3)]
        with pytest.raises(OSError):
            service.ask("GET", "/healthz")
        for connection in held:
            connection.close()
        time.sleep(0.2)
        assert service.ask("GET", "/healthz").status == 200


@pytest.mark.slow
def test_a_second_sigterm_ends_at_once_and_leaves_no_files(tmp_path: Path) -> None:
    with running("--workers", 1, TMPDIR=str(tmp_path)) as service:
        service.ask("POST", "/v1/jobs?model=restore-x2", png(1500, 1500))
        service.wait_for_workers(1)
        service.process.send_signal(signal.SIGTERM)
        while not service.logged(signal=15):
            time.sleep(0.02)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(10) == 0
    assert not list(tmp_path.glob("onebranch-serve-*"))


@pytest.mark.slow
def test_a_token_guards_the_interface(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret-word\n")
    with running("--token-file", tmp_path / "token") as service:
        refused = service.enhance(png())
        assert (refused.status, refused.reason) == (401, "token")
        assert refused.headers["www-authenticate"] == "Bearer"
        assert service.enhance(png(), authorization="Bearer secret-wore").status == 401
        assert service.enhance(png(), authorization="Bearer secret-word").status == 200
        assert service.ask("GET", "/metrics").status == 401
        assert service.ask("GET", "/healthz").status == 200


def test_the_documented_limits_are_the_real_ones() -> None:
    guide = Path(__file__).parent.parent / "docs" / "guides" / "serve.md"
    assert limits_table() in guide.read_text()
    assert ServiceLimits().frames == 100


def test_sigterm_is_ignored_in_the_fork_server_only() -> None:
    """Programs that `python -c` runs import the module too, such as the workers of pytest-xdist."""
    code = "import signal, onebranch.serve.preload; print(signal.getsignal(signal.SIGTERM).name)"
    for begin, expected in (("", "SIG_DFL"), (f"{FORK_SERVER}; ", "SIG_IGN")):
        run = subprocess.run([sys.executable, "-c", begin + code], capture_output=True, text=True, check=True)
        assert run.stdout.strip() == expected
