"""The confinement of the processes that decode pictures, and their messages."""

import multiprocessing
import subprocess
import sys
import threading
from collections import Counter

import pytest

from onebranch.serve.sandbox import landlock_version
from onebranch.serve.worker import MESSAGE_DATA_BYTES, PROGRESS, RESULT_DATA, Messages

SETUP = """
import socket, sys
from onebranch.serve.sandbox import confine, limit_resources
def attempt(action):
    try:
        action()
        return "done"
    except OSError as error:
        return type(error).__name__
    except MemoryError:
        return "MemoryError"
"""


def run(code: str, *arguments: object) -> list[str]:
    """The lines that the code prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", SETUP + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.split()


@pytest.fixture
def folder(tmp_path):
    """A folder that may be written; its parent holds a secret."""
    if not landlock_version():
        pytest.skip("the kernel has no Landlock: confinement of files was not tested")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "own").mkdir()
    return tmp_path / "own"


def test_only_the_listed_files_can_be_opened(folder) -> None:
    code = """
own = sys.argv[1]
assert confine([sys.prefix, sys.base_prefix], [own])
print(attempt(lambda: open(own + "/new", "w").write("x")))
print(attempt(lambda: open(own + "/new").read()))
print(attempt(lambda: open(own + "/../secret").read()))
print(attempt(lambda: open("/etc/passwd").read()))
print(attempt(lambda: open(sys.prefix + "/new", "w")))
print(attempt(lambda: open("/proc/1/environ").read()))
print(attempt(lambda: __import__("os").symlink("/etc/passwd", own + "/link") or open(own + "/link").read()))
"""
    expected = ["done", "done", *["PermissionError"] * 5]
    assert run(code, folder) == expected


def test_no_connection_can_be_made(folder) -> None:
    if landlock_version() < 4:
        pytest.skip("the kernel's Landlock is older than ABI 4: connections were not tested")
    code = """
server = socket.create_server(("127.0.0.1", 0))
address = server.getsockname()
assert confine([], [sys.argv[1]])
print(attempt(lambda: socket.create_connection(address, 2)))
print(attempt(lambda: socket.create_server(("127.0.0.1", 0))))
"""
    assert run(code, folder) == ["PermissionError", "PermissionError"]


def test_memory_and_file_size_are_limited(tmp_path) -> None:
    code = """
limit_resources(200_000_000, 100, 1000)
print(attempt(lambda: bytearray(150_000_000)))
print(attempt(lambda: bytearray(250_000_000)))
print(attempt(lambda: open(sys.argv[1] + "/file", "wb", 0).write(bytes(5000)) < 5000 and bytearray(10**10)))
"""
    assert run(code, tmp_path) == ["done", "MemoryError", "MemoryError"]


def test_time_is_limited() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SETUP + "limit_resources(10**9, 1, 1000)\nwhile True: pass"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (-24, -9)  # SIGXCPU or SIGKILL


def test_messages_of_several_threads_stay_whole() -> None:
    receiving, sending = multiprocessing.Pipe(duplex=False)
    messages, content = Messages(sending), bytes(MESSAGE_DATA_BYTES)
    threads = [
        threading.Thread(
            target=lambda: [messages.send(RESULT_DATA, content) for _ in range(200)], daemon=True
        ),
        threading.Thread(target=lambda: [messages.send(PROGRESS, b"0.5") for _ in range(2000)], daemon=True),
    ]
    for thread in threads:
        thread.start()
    received = Counter(receiving.recv_bytes() for _ in range(2200))
    assert received == {RESULT_DATA + content: 200, PROGRESS + b"0.5": 2000}
    for thread in threads:
        thread.join()
