"""How a merge and its proof are printed: one table per network, one line per part of the proof."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from onebranch.verification import Record


def print_record(console: "Console", record: "Record") -> None:
    """The table of blocks, and the proof in words."""
    from rich.table import Table

    table = Table()
    for heading in ("block", "branches before", "after", "parameters", "MACs a pixel", "basis", "rounding"):
        table.add_column(
            heading, justify="left" if heading in ("block", "branches before", "after") else "right"
        )
    for block in record.blocks:
        errors = [(g.proof.basis.error, g.proof.rounding.error) for g in block.groups]
        table.add_row(
            block.name,
            counted(block.before),
            counted(block.after),
            f"{block.parameters[0]:,} -> {block.parameters[1]:,}",
            f"{block.macs[0]:,} -> {block.macs[1]:,}",
            "\n".join(f"{basis:.1e}" for basis, _ in errors) or "-",
            "\n".join(f"{rounding:.1e}" for _, rounding in errors) or "-",
        )
    console.print(table)
    for line in words(record):
        console.print(line, highlight=False, soft_wrap=True)


def words(record: "Record") -> list[str]:
    """The proof, one line per part."""
    proofs = [group.proof for block in record.blocks for group in block.groups]
    if not proofs:
        return ["Nothing left to merge under this plan."]
    pictures = sum(proof.basis.pictures for proof in proofs)
    sides = sorted({side for proof in proofs for side in (*proof.basis.heights, *proof.basis.widths)})
    which = "every size" if all(proof.basis.complete for proof in proofs) else "a listed subset of sizes"
    weights = sum(proof.rounding.weights for proof in proofs)
    network = record.network
    tried = ", ".join(f"{height}x{width}" for height, width in network.sizes)
    radius = max(max(proof.structure.radius) for proof in proofs)
    basis = max(proof.basis.error for proof in proofs)
    rounding = max(proof.rounding.error for proof in proofs)
    parts = {
        "Structure": f"{len(proofs)} regions, each local, shift-equivariant and affine; radius up to {radius}",
        "Basis": f"zero and every unit impulse, {which} from {sides[0]} to {sides[-1]} a side: {pictures:,}"
        f" pictures, largest difference {basis:.1e} of the largest value (at most 1e-12)",
        "Rounding": f"{weights:,} stored weights are the float32 rounding of the float64 merge; float32 error"
        f" {rounding:.1e} (at most 1e-5)",
        "Network": f"{network.runtime} on {tried}: float32 error {network.runtime_error:.1e} of the largest output",
        "Hashes": f"original {record.original[:16]}..., merged {record.merged[:16]}...",
    }
    lines = [f"{part:<10} {text}" for part, text in parts.items()]
    return lines + [f"{'Note':<10} {note}" for note in record.notes]


def counted(branches: tuple[str, ...]) -> str:
    """One branch a line, equal ones counted.

    >>> counted(("3x3 bn", "3x3 bn", "identity"))
    '2 of 3x3 bn\\nidentity'
    """
    counts = {text: branches.count(text) for text in branches}
    return "\n".join(f"{count} of {text}" if count > 1 else text for text, count in counts.items())
