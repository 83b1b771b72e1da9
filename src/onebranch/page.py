"""The static page that enhances pictures in the browser: `write_page` writes it into a folder.

The page needs no server beyond static hosting, and no other file than those that are written.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from onebranch import strict_json
from onebranch.atomic_files import write_atomically
from onebranch.errors import OnebranchError
from onebranch.model.catalogue import CATALOGUE, ShippedModel

_INSTALLED = Path(__file__).parent / "web"

WEB_FOLDER = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parent.parent / "web"
"""The JavaScript package and the files of the page: in the installed package, or in the sources."""

NOT_ON_THE_PAGE = {"photo-x2-branches", "restore-luma-x2", "restore-luma-x2-int8"}
"""The model before merging, and one that only video needs."""

PAGE_MODELS = tuple(name for name in CATALOGUE if name not in NOT_ON_THE_PAGE)
"""The shipped models that the page offers."""

SERVICE_WORKER = "service-worker.js"

SAMPLE = Path(__file__).parent / "data" / "photograph.png"
"""The picture that a visitor can try."""


def page_files() -> dict[str, bytes]:
    """Content of every file of the page by its name, which may contain a folder (models/NAME.safetensors)."""
    if not (WEB_FOLDER / "engine.wasm").is_file():
        raise OnebranchError(f"the page's files are missing from this installation: {WEB_FOLDER}")
    files = {path.name: path.read_bytes() for path in _static_files()}
    models = {f"models/{CATALOGUE[name].file}": CATALOGUE[name].path.read_bytes() for name in PAGE_MODELS}
    samples = {"sample.png": SAMPLE.read_bytes()}
    files["models.json"] = _models_json(models)
    files[SERVICE_WORKER] = _filled(files[SERVICE_WORKER].decode(), files)
    return files | models | samples


def write_page(folder: Path) -> list[Path]:
    """Write the static page into a folder, which is made if need be; returns the files, sorted.

    Files of an earlier page are replaced, other files are kept. Raises OnebranchError if a file cannot be
    written.
    """
    files = page_files()
    try:
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OnebranchError(f"cannot create the folder {folder}: {error.strerror}") from None
    for name, content in files.items():
        write_atomically(folder / name, content, overwrite=True)
    return sorted(folder / name for name in files)


def _static_files() -> Iterator[Path]:
    """The modules, the engine and the files of the page itself."""
    yield from WEB_FOLDER.glob("*.mjs")
    yield WEB_FOLDER / "engine.wasm"
    yield from (path for path in (WEB_FOLDER / "page").iterdir() if path.is_file())


def _models_json(models: dict[str, bytes]) -> bytes:
    """The models as JSON, in the order of the catalogue."""

    def entry(model: ShippedModel) -> dict[str, object]:
        file = f"models/{model.file}"
        facts = {"name": model.name, "task": model.task, "scale": model.scale, "colour": model.colour}
        version = hashlib.sha256(models[file]).hexdigest()[:12]  # browsers keep a model for good
        return facts | {"about": model.about, "file": f"{file}?{version}", "bytes": len(models[file])}

    return strict_json.dumps([entry(CATALOGUE[name]) for name in PAGE_MODELS], indent=1).encode()


def _filled(text: str, files: dict[str, bytes]) -> bytes:
    """The service worker with the names of the files that it keeps and a digest of their content."""
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{name} {len(content)}\n".encode())
        digest.update(content)
    kept = sorted(name for name in files if name != SERVICE_WORKER)
    filled = text.replace('"VERSION"', strict_json.dumps(digest.hexdigest()[:16]))
    filled = filled.replace('["FILES"]', strict_json.dumps(kept))
    if filled == text:
        raise OnebranchError("the page's service worker has no place for its version")
    return filled.encode()
