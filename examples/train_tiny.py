"""Train a tiny network with branches, merge it, and score it against bicubic.

    python examples/train_tiny.py PICTURES [FOLDER]

PICTURES is a folder of photographs; a handful is enough to see it learn. FOLDER (here: tiny) holds the run.
"""

import sys
from pathlib import Path

import onebranch

CONFIG = """
name = "tiny"

[network]
task = "upscale"
width = 8
depth = 2
branches = ["3x3*2 1x1", "1x1 3x3", "3x3", "identity"]
residual = "bicubic"

[data]
train = "{pictures}"
cache = "{folder}/cache"

[training]
steps = {steps}
validate_every = {steps}
threads = 1
"""


def main(pictures: str, folder: str = "tiny", steps: str = "1500") -> None:
    """Train, merge and score; the run can be stopped and started again."""
    run = Path(folder).resolve()
    run.mkdir(parents=True, exist_ok=True)
    config = run / "tiny.toml"
    config.write_text(CONFIG.format(pictures=Path(pictures).resolve(), folder=run, steps=steps))
    trained = onebranch.train(config, run, quiet=False)

    merged, report = onebranch.merge(onebranch.load(trained))
    print(report.summary())
    onebranch.save(merged, run / "tiny-merged.safetensors", overwrite=True)
    mean = onebranch.evaluate(merged, pictures).mean
    print(f"{mean.scores.psnr_y:.2f} dB on luma, bicubic {mean.baseline.psnr_y:.2f} dB")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
