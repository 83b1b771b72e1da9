"""Refusals of the service as problem details (RFC 9457)."""

from dataclasses import dataclass
from typing import Any

TITLES = {
    400: "Bad request",
    401: "Token missing or wrong",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    406: "No acceptable format",
    408: "Request too slow",
    409: "Not finished",
    413: "Too large",
    415: "Not a picture that is read",
    416: "No such bytes",
    422: "Cannot be processed",
    429: "Too many requests",
    431: "Header too large",
    500: "Internal error",
    503: "Not available now",
}
"""The title of the problems of each status."""

MEDIA_TYPE = "application/problem+json"

RETRY_SECONDS = 5
"""Seconds after which a client may try again, in Retry-After."""

RETRY_STATUSES = (429, 503)


@dataclass(eq=False)
class Problem(Exception):
    """A refusal: its HTTP status, its reason (one word, counted by the metrics), and what is wrong.

    headers: headers of the response besides Content-Type and Retry-After.
    """

    status: int
    reason: str
    detail: str
    headers: tuple[tuple[str, str], ...] = ()

    def body(self) -> dict[str, Any]:
        """The members of the problem details.

        >>> Problem(413, "body_bytes", "too long").body()["title"]
        'Too large'
        """
        return {
            "type": f"urn:onebranch:problem:{self.reason}",
            "title": TITLES.get(self.status, "Refused"),
            "status": self.status,
            "detail": self.detail,
            "reason": self.reason,
        }

    def all_headers(self) -> dict[str, str]:
        """The headers of the response, without Content-Type."""
        retry = {"Retry-After": str(RETRY_SECONDS)} if self.status in RETRY_STATUSES else {}
        return {**retry, **dict(self.headers)}
