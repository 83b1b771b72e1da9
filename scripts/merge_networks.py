"""Merges networks of timm, torchvision and spandrel, as modules and as ONNX files, and prints two tables.

They are small configurations with random weights and statistics, of architectures that no test of onebranch
uses. Every network runs in a process of its own, one after the other, in one thread:

    pip install --no-deps timm==1.0.31 spandrel==0.4.2 spandrel_extra_arches==0.2.0 torchvision==0.28.0
    python scripts/merge_networks.py            # all, as Markdown
    python scripts/merge_networks.py --write    # all, into docs/reference/merged-networks.md
    python scripts/merge_networks.py NAFNet     # the networks of these names
    python scripts/merge_networks.py --json NAFNet   # one network, its results as JSON

`--results FOLDER` keeps the results of every network in a folder, and takes those that are already there, so
that a run can be continued.
"""

import importlib
import importlib.metadata
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from marked_tables import replace_tables

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "merged-networks.md"

sys.path.insert(0, str(ROOT / "tests"))

TIME_LIMIT_SECONDS = 180
"""Processor time of both routes together; a network that takes longer is skipped, and the table says so."""

MAX_REASONS = 3
"""The number of kinds of reasons that the second table lists for each route of a network."""

PICTURES = (64, 64), (96, 64)
"""Sizes at which every network runs."""

CLASSIFIERS = {
    "torchvision": (
        *("mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x0_5", "mnasnet0_5", "squeezenet1_1"),
        "regnet_y_400mf",
    ),
    "timm": (
        *("tinynet_e", "semnasnet_075", "inception_next_atto", "edgenext_xx_small", "gernet_s", "dla46_c"),
        *("convnext_atto", "iformer_t", "lcnetv2_small", "repghostnet_058"),
    ),
}
"""Classifiers by package, each with ten classes. timm converts the last three of its own too."""

RESTORERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "NAFNet": ("spandrel", "NAFNet.__arch.NAFNet_arch", {"enc_blk_nums": [1, 1], "dec_blk_nums": [1, 1]}),
    "RCAN": ("spandrel", "RCAN.__arch.rcan_arch", {"n_resgroups": 1, "n_resblocks": 2, "n_feats": 16}),
    "MoESR": ("spandrel", "MoESR.__arch.MoESR", {"dim": 16, "n_blocks": 1, "n_block": 1}),
    "SeemoRe": ("spandrel", "SeemoRe.__arch.seemore_arch", {"num_layers": 1, "embedding_dim": 36}),
    "FBCNN": ("spandrel", "FBCNN.__arch.FBCNN", {"nc": [8, 8, 16, 512], "nb": 1}),
    "KBNet_s": (
        "spandrel",
        "KBNet.__arch.kbnet_s",
        {"width": 16, "middle_blk_num": 1, "enc_blk_nums": [1], "dec_blk_nums": [1]},
    ),
    "MixDehazeNet": (
        "spandrel",
        "MixDehazeNet.__arch.MixDehazeNet",
        {"embed_dims": [8, 16, 32, 16, 8], "depths": [1, 1, 1, 1, 1]},
    ),
    "FFCResNetGenerator": (
        "spandrel",
        "LaMa.__arch.LaMa",
        {"input_nc": 3, "output_nc": 3, "ngf": 8, "n_downsampling": 1, "n_blocks": 1},
    ),
    "CIDNet": ("spandrel", "HVICIDNet.__arch.cidnet", {"channels": [8, 8, 16, 16], "heads": [1, 2, 4, 8]}),
    "MIRNet_v2": ("spandrel_extra_arches", "MIRNet2.__arch.mirnet_v2_arch", {"n_feat": 16, "n_MRB": 1}),
    "MPRNet": (
        "spandrel_extra_arches",
        "MPRNet.__arch.MPRNet",
        {"n_feat": 8, "scale_unetfeats": 4, "scale_orsnetfeats": 4, "num_cab": 1},
    ),
    "M3SNet": (
        "spandrel_extra_arches",
        "M3SNet.__arch.M3SNet",
        {"width": 8, "enc_blk_nums": [1, 1], "dec_blk_nums": [1, 1]},
    ),
    "Restormer": (
        "spandrel_extra_arches",
        "Restormer.__arch.restormer_arch",
        {"dim": 8, "num_blocks": [1, 1, 1, 1], "num_refinement_blocks": 1},
    ),
}
"""Picture-to-picture networks: package, module and options."""


MASKED = ("FFCResNetGenerator",)
"""Networks that take a mask of one channel too; it is the first channel of the picture here."""


def networks() -> Iterator[tuple[str, str, Callable[[], Any]]]:
    """Name, package and builder of every network."""
    for package, names in CLASSIFIERS.items():
        for name in names:
            yield name, package, _classifier(package, name)
    for name, (package, module, options) in RESTORERS.items():
        yield name, package, _restorer(package, module, name, options)


def _classifier(package: str, name: str) -> Callable[[], Any]:
    def build() -> Any:
        if package == "timm":
            return importlib.import_module("timm").create_model(name, pretrained=False, num_classes=10)
        return getattr(importlib.import_module("torchvision.models"), name)(weights=None, num_classes=10)

    return build


def _restorer(package: str, module: str, name: str, options: dict[str, Any]) -> Callable[[], Any]:
    def build() -> Any:
        from foreign import Picture

        architecture = importlib.import_module(f"{package}.architectures.{module}")
        network = getattr(architecture, name)(**options)
        if name in MASKED:
            forward = network.forward
            network.forward = lambda picture: forward(picture, picture[:, :1])
        return Picture(network)

    return build


def define_torchvision_operations() -> None:
    """Let torchvision be imported where its library does not fit PyTorch's: only its networks are used."""
    import torch

    if not hasattr(torch.ops.torchvision, "nms"):
        kind: Any = torch.library.Library
        library = kind("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        sys.modules[__name__].__dict__["_library"] = library  # it must stay alive


def results(build: Callable[[], Any]) -> dict[str, Any]:
    """The results of both routes, as JSON values, and the convolutions after the authors' own conversion."""
    define_torchvision_operations()
    import torch

    from foreign import Network

    network = Network(build, PICTURES)
    module = network.module()
    with torch.no_grad():
        outputs = [module(_picture(size)) for size in PICTURES]
    return {
        "module": _timed(lambda: _merged_module(module, outputs)),
        "onnx": _timed(lambda: _merged_file(network, module, outputs)),
        "authors": _authors_convolutions(module),
    }


def _timed(merge: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result with its seconds of processor time, or the error in one line."""
    began = time.process_time()
    try:
        return {**merge(), "seconds": time.process_time() - began}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0]}"}


def _authors_convolutions(module: Any) -> int | None:
    """The convolutions that run after timm's conversion; None for a network without one."""
    import torch
    from timm.utils.model import reparameterize_model

    conversions = ("fuse", "reparameterize", "switch_to_deploy")
    if not any(hasattr(part, name) for part in module.modules() for name in conversions):
        return None
    converted, runs = reparameterize_model(module), Counter[str]()
    for part in converted.modules():
        if isinstance(part, torch.nn.Conv2d):
            part.register_forward_hook(lambda *_: runs.update(["convolution"]))
    with torch.no_grad():
        converted(_picture(PICTURES[0]))
    return runs["convolution"]


def _picture(size: tuple[int, int]) -> Any:
    from foreign import pictures

    return pictures(*size)


def _merged_module(module: Any, outputs: list[Any]) -> dict[str, Any]:
    import torch

    import onebranch

    merged, report = onebranch.merge(module, _picture(PICTURES[0]))
    with torch.no_grad():
        made = [_output(merged, size) for size in PICTURES]
    errors = [_error(a, b) for a, b in zip(made, outputs, strict=True) if a is not None]
    return {
        "convolutions": report.convolutions,
        "parameters": report.parameters,
        "macs": report.macs,
        "error": max(errors) if errors else "no size runs",
        "size_limits": report.size_limits,
        "unmerged": _kinds(entry.reason for entry in report.unmerged),
    }


def _output(merged: Any, size: tuple[int, int]) -> Any:
    """The output of a merged module; None for a size that it refuses."""
    import onebranch

    try:
        return merged(_picture(size))
    except onebranch.OnebranchError:
        return None


def _error(made: Any, expected: Any) -> float:
    """The largest difference, relative to the largest expected number."""
    first, second = (value[0] if isinstance(value, tuple | list) else value for value in (made, expected))
    return float((first - second).abs().max() / second.abs().max())


def _merged_file(network: Any, module: Any, outputs: list[Any]) -> dict[str, Any]:
    import onnx
    import onnxruntime
    import torch

    import onebranch

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "merged.onnx"
        original: onnx.ModelProto = network.exported(module)
        merge: Any = onebranch.merge  # its overloads do not cover an untyped model
        merged, report = merge(original)
        onnx.save(merged, path)
        if report.changed:
            onebranch.verify(original, onnx.load(path))
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        made = session.run(None, {session.get_inputs()[0].name: _picture(PICTURES[0]).numpy()})[0]
    return {
        "convolutions": report.convolutions,
        "parameters": report.parameters,
        "macs": report.macs,
        "error": _error(torch.from_numpy(made), outputs[0]),
        "size_limits": report.size_limits,
        "unmerged": _kinds(entry.reason for entry in report.unmerged),
    }


def _kinds(reasons: Iterable[str]) -> dict[str, int]:
    """The kinds of reasons with their numbers, most frequent first; names and numbers are left out.

    >>> _kinds(["'a' is also read elsewhere", "'b' is also read elsewhere"])
    {"'...' is also read elsewhere": 2}
    """
    unnamed = (re.sub(r"'[^']*'", "'...'", reason) for reason in reasons)
    counts = Counter(re.sub(r"\d[\d,.]*", "N", reason) for reason in unnamed)
    return dict(counts.most_common())


def main() -> None:
    """Run the networks that are named, or all, and print or write the tables."""
    words = sys.argv[1:]
    folder = None
    if "--results" in words:
        index = words.index("--results")
        folder = Path(words[index + 1])
        del words[index : index + 2]
    wanted = [name for name in words if not name.startswith("--")]
    chosen = [entry for entry in networks() if not wanted or entry[0] in wanted]
    if "--json" in sys.argv:
        print(json.dumps(results(chosen[0][2])))
        return
    rows, reasons = [RESULT_HEADING], [REASON_HEADING]
    for name, package, _ in chosen:
        result = _kept(name, folder)
        rows.append(_row(name, f"{package} {importlib.metadata.version(package)}", result))
        reasons += _reason_rows(name, result)
        print(rows[-1], file=sys.stderr, flush=True)
    tables = {"networks": "\n".join(rows), "reasons": "\n".join(reasons)}
    if "--write" in sys.argv:
        replace_tables(PAGE, tables)
    else:
        print("\n\n".join(tables.values()))


RESULT_HEADING = """\
| network | package | convolutions of the module | difference | seconds | of the file | difference | seconds |
| --- | --- | --- | --- | --- | --- | --- | --- |"""

REASON_HEADING = """\
| network | route | unmerged | most frequent reasons |
| --- | --- | --- | --- |"""


def _kept(name: str, folder: Path | None) -> dict[str, Any]:
    """The results in the folder, or new ones, which are put there."""
    if folder is None:
        return _in_subprocess(name)
    path = folder / f"{name}.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(_in_subprocess(name)))
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def _in_subprocess(name: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--json", name]
    limit = (TIME_LIMIT_SECONDS, TIME_LIMIT_SECONDS + 5)
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, limit),
    )
    if done.returncode == -signal.SIGXCPU:
        return {"error": f"skipped: it takes more than {TIME_LIMIT_SECONDS} seconds"}
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["it ended without a message"])[-1]}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _row(name: str, package: str, result: dict[str, Any]) -> str:
    if "error" in result:
        return f"| {name} | {package} | {result['error']} | | | | | |"
    cells = [*_cells(result["module"], result["authors"]), *_cells(result["onnx"], None)]
    return "| " + " | ".join((name, package, *cells)) + " |"


def _cells(result: dict[str, Any], authors: int | None) -> list[str]:
    """Convolutions, difference and seconds; or the message in the first cell."""
    if "convolutions" not in result:
        return [str(result["error"]), "", ""]
    before, after = result["convolutions"]
    counts = f"{before:,} -> {after:,}"
    counts += "" if authors is None else f" (authors' conversion: {authors:,})"
    counts += " (its size is fixed)" if result["size_limits"] else ""
    error = result["error"] if isinstance(result["error"], str) else f"{result['error']:.0e}"
    return [counts, error, f"{result['seconds']:.0f}"]


def _reason_rows(name: str, result: dict[str, Any]) -> Iterator[str]:
    """A row for each route that has a result."""
    for route, words in (("module", "module"), ("onnx", "file")):
        kinds = result.get(route, {}).get("unmerged")
        if kinds is None:
            continue
        first = list(kinds.items())[:MAX_REASONS]
        rest = sum(kinds.values()) - sum(count for _, count in first)
        texts = [f"{count} x {kind}" for kind, count in first] + ([f"{rest} others"] if rest else [])
        yield f"| {name} | {words} | {sum(kinds.values())} | {'<br>'.join(texts)} |"


if __name__ == "__main__":
    main()
