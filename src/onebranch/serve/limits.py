"""The limits of the service: their defaults, what exceeding one means, and the table in the documentation."""

from dataclasses import dataclass, field, fields
from typing import Any

from onebranch.errors import OnebranchError


def _limit(default: int, about: str, unit: str, status: str) -> Any:
    """A field of `ServiceLimits`. status: HTTP status of a request that exceeds the limit."""
    return field(default=default, metadata={"about": about, "unit": unit, "status": status})


@dataclass(frozen=True)
class ServiceLimits:
    """What the service accepts. Raises OnebranchError at construction for a limit below 1 (queue: below 0).

    >>> ServiceLimits(frames=1).input_pixels
    100000000
    """

    body_bytes: int = _limit(100_000_000, "Size of a request's body", "bytes", "413")
    body_seconds: int = _limit(60, "Time until the body has arrived", "seconds", "408")
    input_pixels: int = _limit(100_000_000, "Width × height × frames of the picture", "pixels", "413")
    output_pixels: int = _limit(400_000_000, "Width × height × frames of the result", "pixels", "413")
    frames: int = _limit(100, "Frames of an animation", "frames", "413")
    seconds: int = _limit(
        300,
        "Time for one picture, from the start of its process to the last byte",
        "seconds",
        "503",
    )
    memory: int = _limit(1_000_000_000, "Memory of one picture's process", "bytes", "413")
    queue: int = _limit(16, "Requests and jobs that wait for a process", "requests", "503, Retry-After")
    client_requests: int = _limit(
        4, "Requests and jobs of one client address at the same time", "requests", "429, Retry-After"
    )
    jobs: int = _limit(64, "Jobs that are kept, finished ones included", "jobs", "503, Retry-After")
    stored_bytes: int = _limit(4_000_000_000, "Results of jobs that are kept", "bytes", "503, Retry-After")
    result_seconds: int = _limit(600, "Time for which a finished job is kept", "seconds", "404")
    connections: int = _limit(500, "Open connections", "connections", "connection closed")
    client_connections: int = _limit(
        100, "Open connections of one client address", "connections", "connection closed"
    )
    header_seconds: int = _limit(
        10, "Time until the header of a request has arrived", "seconds", "connection closed"
    )
    header_bytes: int = _limit(16_384, "Size of a request's header", "bytes", "431")

    def __post_init__(self) -> None:
        """Check every limit."""
        for each in fields(self):
            lowest = 0 if each.name == "queue" else 1
            if getattr(self, each.name) < lowest:
                raise OnebranchError(
                    f"limit {each.name} must be at least {lowest}, not {getattr(self, each.name)}"
                )


def limits_table() -> str:
    """The table of limits as Markdown, for the documentation.

    >>> limits_table().splitlines()[2]
    "| `--max-body-bytes` | Size of a request's body | 100,000,000 bytes | 413 |"
    """
    lines = ["| option | limit | default | beyond it |", "| --- | --- | --- | --- |"]
    lines += [
        f"| `{option_name(each.name)}` | {each.metadata['about']}"
        f" | {each.default:,} {each.metadata['unit']} | {each.metadata['status']} |"
        for each in fields(ServiceLimits)
    ]
    return "\n".join(lines) + "\n"


def option_name(limit: str) -> str:
    """The command-line option of a limit.

    >>> option_name("body_bytes")
    '--max-body-bytes'
    """
    return f"--max-{limit.replace('_', '-')}"
