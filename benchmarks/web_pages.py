"""A static server and a browser, for the tests of the page and for its benchmark."""

import contextlib
import http.server
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

CHROMIUM = "/usr/bin/chromium"

TYPES = {".mjs": "text/javascript", ".js": "text/javascript", ".wasm": "application/wasm"}


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files and keeps quiet."""

    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | TYPES

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server of a folder on this machine."""
    handler = partial(_Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def why_no_browser() -> str:
    """The reason why no browser test can run; empty if they can."""
    if shutil.which(CHROMIUM) is None:
        return f"there is no {CHROMIUM} (scripts/install_browser.sh installs it as root)"
    return ""


@contextlib.contextmanager
def chromium(playwright: Any) -> Iterator[Any]:
    """Debian's Chromium without a window."""
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
    yield browser
    browser.close()
