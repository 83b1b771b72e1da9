"""Merge a network from timm, compare outputs and speed, and save the merged network.

python examples/merge_timm_module.py [MODEL] [FILE.pt2]
"""

import sys
import time

import timm
import torch

import onebranch


def main(name: str = "mobileone_s0", file: str = "merged.pt2") -> None:
    """Merge a timm model with random weights (pretrained=True would download trained ones)."""
    torch.manual_seed(0)
    module = timm.create_model(name, pretrained=False).eval()
    example = torch.rand(1, 3, 224, 224)

    merged, report = onebranch.merge(module, example)
    print(report.summary())

    with torch.inference_mode():
        expected = module(example)
        difference = (merged(example) - expected).abs().max() / expected.abs().max()
        print(f"largest difference of the outputs: {difference:.1e} of the largest output")
        print(f"seconds before: {seconds(module, example):.3f}, after: {seconds(merged, example):.3f}")

    torch.export.save(torch.export.export(merged, (example,)), file)
    print(f"{file}: load it with torch.export.load, without onebranch")


def seconds(module: torch.nn.Module, example: torch.Tensor) -> float:
    """The fastest of five runs."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        module(example)
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    main(*sys.argv[1:])
