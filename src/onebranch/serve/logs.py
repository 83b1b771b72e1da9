"""Logs of the service: one JSON object per line on standard error."""

import logging
import sys
import time
from typing import Any

from onebranch import strict_json

LOGGER = logging.getLogger("onebranch.serve")


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON; fields of its own are in `record.fields`."""

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


def set_up() -> None:
    """Log everything of the service, and the warnings of its server, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name, level in (("onebranch.serve", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
