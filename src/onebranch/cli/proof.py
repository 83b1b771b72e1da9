"""How a merge and its proof are printed: one table per network, one line per part of the proof."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from onebranch.proof.region import Proof
    from onebranch.verification import Record


def print_record(console: "Console", record: "Record") -> None:
    """The table of blocks, each with the error of its regions on the basis, and the proof in words."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading in ("block", "before", "after"):
        table.add_column(heading, no_wrap=True)
    for heading in ("parameters", "MACs a pixel", "basis"):
        table.add_column(heading, justify="right", no_wrap=True)
    for block in record.blocks:
        errors = [group.proof.basis.error for group in block.groups]
        table.add_row(
            block.name,
            counted(block.before),
            counted(block.after),
            f"{block.parameters[0]:,} -> {block.parameters[1]:,}",
            f"{block.macs[0]:,} -> {block.macs[1]:,}",
            "\n".join(f"{error:.1e}" for error in errors) or "-",
        )
    console.print(table)
    for line in words(record):
        console.print(line, highlight=False, soft_wrap=True)


def words(record: "Record") -> list[str]:
    """The proof, one line per part."""
    proofs = [group.proof for block in record.blocks for group in block.groups]
    notes = [f"{'Note':<10} {note}" for note in record.notes]
    if not proofs:
        return ["Nothing left to merge under this plan.", *notes]
    pictures = sum(proof.basis.pictures for proof in proofs)
    weights = sum(proof.rounding.weights for proof in proofs)
    network = record.network
    tried = ", ".join(f"{height}x{width}" for height, width in network.sizes)
    radius = max(max(proof.structure.radius) for proof in proofs)
    basis = max(proof.basis.error for proof in proofs)
    rounding = max(proof.rounding.error for proof in proofs)
    parts = {
        "Structure": f"{len(proofs)} regions, all local, shift-equivariant and affine; radius up to {radius}",
        "Basis": f"zero and every unit impulse of pictures of {_sizes(proofs)}: {pictures:,} pictures,"
        f" largest difference {basis:.1e} of the largest value (at most 1e-12)",
        "Rounding": f"{weights:,} stored weights are the float32 rounding of the float64 merge; float32 error"
        f" {rounding:.1e} (at most 1e-5)",
        "Network": f"{network.runtime} on crops of a photograph, {tried}: float32 error"
        f" {network.runtime_error:.1e} of the largest output ({network.unmerged_error:.1e} unmerged)",
        "Hashes": f"original {record.original[:16]}..., merged {record.merged[:16]}...",
    }
    return [*(f"{part:<10} {text}" for part, text in parts.items()), *notes]


def _sizes(proofs: "Sequence[Proof]") -> str:
    """Which sizes the basis took; where they are not all, which they are."""
    largest = max(max(*proof.basis.heights, *proof.basis.widths) for proof in proofs)
    every = f"every height and width from 1 to 2r + 2 (at most {largest})"
    partial = [proof.structure.radius for proof in proofs if not proof.basis.complete]
    if not partial:
        return every
    return f"{every}, along radii of {min(map(max, partial))} or more only 1, 2, 2r, 2r + 1 and 2r + 2"


def counted(branches: tuple[str, ...]) -> str:
    """One branch a line, equal ones counted.

    >>> counted(("3x3 bn", "3x3 bn", "identity"))
    '2 of 3x3 bn\\nidentity'
    """
    counts = {text: branches.count(text) for text in branches}
    return "\n".join(f"{count} of {text}" if count > 1 else text for text, count in counts.items())
