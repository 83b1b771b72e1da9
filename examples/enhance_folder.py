"""Enhance every picture of a folder; start it again to resume, or to add new pictures.

python examples/enhance_folder.py PICTURES RESULTS
"""

import sys

import onebranch


def main(pictures: str, results: str) -> None:
    """Double the pictures of a folder (and of its subfolders) into another folder."""
    summary = onebranch.enhance_files(
        [pictures],
        results,
        onebranch.Options(model="photo-x2"),
        batch=onebranch.BatchOptions(recursive=True, resume=True),
    )
    for failure in summary.failed:
        print(f"{failure.job.source}: {failure.reason}", file=sys.stderr)
    print(f"{len(summary.done)} enhanced, {len(summary.skipped)} up to date, {len(summary.failed)} failed")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
