"""Logs of the service: one JSON object per line on standard error."""

import logging
import sys
import time
from typing import Any, TextIO

from onebranch import strict_json

LOGGER = logging.getLogger("onebranch.serve")


class JsonFormatter(logging.Formatter):
    """A log record as one line of JSON, with the additional fields in `record.fields`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return strict_json.dumps(line)


def log(message: str, level: int = logging.INFO, **fields: Any) -> None:
    """Log a message with fields."""
    LOGGER.log(level, message, extra={"fields": fields})


def set_up(stream: TextIO | None = None) -> None:
    """Log the service, and the warnings of all libraries, to a stream, by default standard error."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    LOGGER.setLevel(logging.INFO)
