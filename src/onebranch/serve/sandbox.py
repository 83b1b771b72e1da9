"""Confinement of a process: limits of memory, time and file size, and Landlock where the kernel has it.

By Landlock (Linux 5.13 and later), a process gives up the right to open files and, from Linux 6.7 on, TCP
connections, except those that it lists. That needs no privileges and cannot be undone.
"""

import contextlib
import ctypes
import os
import resource
import signal
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""System calls of Landlock, the same on every architecture."""

VERSION_FLAG, PATH_BENEATH = 1, 1

NO_NEW_PRIVILEGES = 38
"""Option of prctl."""

EXECUTE, WRITE_FILE, READ_FILE, READ_FOLDER = 1 << 0, 1 << 1, 1 << 2, 1 << 3

CONTROL_DEVICE = 1 << 15
"""The right to control device files, which exists from ABI 5 on."""

FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""Number of rights over files by ABI version; each is one bit, from the lowest on."""

NETWORK_RIGHTS = 0b11
"""Binding and connecting TCP sockets, from ABI 4 on."""

SCOPES = 0b11
"""Abstract Unix sockets and signals to processes outside, from ABI 6 on."""

RIGHTS_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | 1 << 14 | 1 << 15
"""Rights that a rule about a single file may grant."""


def limit_resources(memory: int | None, cpu_seconds: int, file_bytes: int) -> None:
    """Limit this process. memory: further bytes of address space, None: any. file_bytes: of one file."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if sys.platform == "linux" else 0
    if memory is not None:
        _lower(resource.RLIMIT_AS, pages * os.sysconf("SC_PAGE_SIZE") + memory)
    _lower(resource.RLIMIT_CPU, cpu_seconds)
    _lower(resource.RLIMIT_FSIZE, file_bytes)
    _lower(resource.RLIMIT_CORE, 0)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing then fails with EFBIG


def _lower(limit: int, value: int) -> None:
    _, hard = resource.getrlimit(limit)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    with contextlib.suppress(ValueError, OSError):  # some systems have no such limit
        resource.setrlimit(limit, (value, value))


def landlock_version() -> int:
    """The version of Landlock's ABI that the kernel has; 0 if it has none."""
    if sys.platform != "linux":
        return 0
    return max(0, int(_libc().syscall(CREATE_RULESET, None, ctypes.c_size_t(0), VERSION_FLAG)))


def confine(readable: Iterable[str], writable: Iterable[str], devices: Iterable[str] = ()) -> bool:
    """Take from this process all other files, and all TCP connections; False if the kernel cannot.

    readable: files and folders that may be read and whose libraries may be loaded. writable: folders in which
    files may be read, written and made. devices: device files, or folders of them, that may be read, written
    and controlled. Paths that do not exist are left out.
    """
    version = landlock_version()
    if not version:
        return False
    rights = (1 << FILE_RIGHTS.get(version, max(FILE_RIGHTS.values()))) - 1
    sizes = 8 if version < 4 else 16 if version < 6 else 24
    attributes = struct.pack("QQQ", rights, NETWORK_RIGHTS, SCOPES)[:sizes]
    rules = _call(CREATE_RULESET, attributes, ctypes.c_size_t(sizes), 0)
    try:
        for path in readable:
            _allow(rules, path, EXECUTE | READ_FILE | READ_FOLDER)
        for path in writable:
            _allow(rules, path, rights & ~EXECUTE)
        for path in devices:
            _allow(rules, path, rights & (READ_FILE | WRITE_FILE | READ_FOLDER | CONTROL_DEVICE))
        if _libc().prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl failed")
        _call(RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)
    return True


def _allow(rules: int, path: str, rights: int) -> None:
    """Add the rights over a file, or over a folder and all below it."""
    with contextlib.suppress(FileNotFoundError):
        file = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            granted = rights if Path(path).is_dir() else rights & RIGHTS_OF_FILES
            _call(ADD_RULE, rules, PATH_BENEATH, struct.pack("=Qi", granted, file), 0)
        finally:
            os.close(file)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc().syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"system call {number} failed")
    return result


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
