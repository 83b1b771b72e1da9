"""Merges networks of timm, torchvision and spandrel, as modules and as ONNX files, and prints a table.

They are small configurations with random weights and statistics, of architectures that no test of onebranch
uses. Every network runs in a process of its own:

    pip install --no-deps timm==1.0.31 spandrel==0.4.2 spandrel_extra_arches==0.2.0 torchvision==0.28.0
    python scripts/merge_networks.py            # all, a Markdown table
    python scripts/merge_networks.py NAFNet     # the networks of these names
    python scripts/merge_networks.py --json NAFNet   # one network, its results as JSON
"""

import importlib
import importlib.metadata
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

TIME_LIMIT_SECONDS = 1200
"""After this time a network counts as failed."""

PICTURES = (64, 64), (96, 64)
"""Sizes at which every network runs."""

CLASSIFIERS = {
    "torchvision": (
        *("mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x0_5", "mnasnet0_5", "squeezenet1_1"),
        "regnet_y_400mf",
    ),
    "timm": (
        *("tinynet_e", "semnasnet_075", "inception_next_atto", "edgenext_xx_small", "gernet_s", "dla46_c"),
        "convnext_atto",
    ),
}
"""Classifiers by package, each with ten classes."""

RESTORERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "NAFNet": ("spandrel", "NAFNet.__arch.NAFNet_arch", {"enc_blk_nums": [1, 1], "dec_blk_nums": [1, 1]}),
    "RCAN": ("spandrel", "RCAN.__arch.rcan_arch", {"n_resgroups": 1, "n_resblocks": 2, "n_feats": 16}),
    "MoESR": ("spandrel", "MoESR.__arch.MoESR", {"dim": 16, "n_blocks": 1, "n_block": 1}),
    "SeemoRe": ("spandrel", "SeemoRe.__arch.seemore_arch", {"num_layers": 1, "embedding_dim": 16}),
    "FBCNN": ("spandrel", "FBCNN.__arch.FBCNN", {"nc": [8, 8, 16, 16], "nb": 1}),
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

        found = importlib.import_module(f"{package}.architectures.{module}")
        return Picture(getattr(found, name)(**options))

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
    """The results of both routes, as JSON values."""
    define_torchvision_operations()
    import torch

    from foreign import Network

    network = Network(build, PICTURES)
    module = network.module()
    with torch.no_grad():
        outputs = [module(_picture(size)) for size in PICTURES]
    return {
        "module": _safely(lambda: _merged_module(module, outputs)),
        "onnx": _safely(lambda: _merged_file(network, module, outputs)),
    }


def _safely(merge: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result, or the error in one line."""
    try:
        return merge()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0]}"}


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
        "unmerged": len(report.unmerged),
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
        "unmerged": len(report.unmerged),
    }


def main() -> None:
    """Run the networks that are named, or all, and print the table."""
    wanted = [name for name in sys.argv[1:] if name != "--json"]
    chosen = [entry for entry in networks() if not wanted or entry[0] in wanted]
    if "--json" in sys.argv:
        print(json.dumps(results(chosen[0][2])))
        return
    print("| network | package | module: convolutions | parameters | error | file: convolutions | error |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for name, package, _ in chosen:
        version = importlib.metadata.version(package)
        print(_row(name, f"{package} {version}", _in_subprocess(name)), flush=True)


def _in_subprocess(name: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--json", name]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIME_LIMIT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": "no result in time"}
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["it ended without a message"])[-1]}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _row(name: str, package: str, result: dict[str, Any]) -> str:
    if "error" in result:
        return f"| {name} | {package} | {result['error']} | | | | |"
    module, file = result["module"], result["onnx"]
    cells = [name, package, *_cells(module, 3), *_cells(file, 2)]
    return "| " + " | ".join(cells) + " |"


def _cells(result: dict[str, Any], count: int) -> list[str]:
    """Convolutions, parameters (if three cells are wanted) and error; or the message in the first cell."""
    if "convolutions" not in result:
        return [str(result["error"]), *[""] * (count - 1)]
    arrows = [f"{before:,} -> {after:,}" for before, after in (result["convolutions"], result["parameters"])]
    limit = " (its size is fixed)" if result["size_limits"] else ""
    error = result["error"] if isinstance(result["error"], str) else f"{result['error']:.0e}"
    return [arrows[0] + limit, *arrows[1 : count - 1], error]


if __name__ == "__main__":
    main()
