"""How a merge and its proof are printed: one table per network, one line per part of the proof."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from onebranch.graph.merge.linear import Left
    from onebranch.merging.report import GraphReport
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


def print_graph_report(console: "Console", report: "GraphReport") -> None:
    """The table of regions that were merged, what was left and why, and the proof in words."""
    from rich import box
    from rich.table import Table

    if report.merged:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        table.add_column("value", overflow="fold")
        table.add_column("operations", justify="right", no_wrap=True)
        table.add_column("into", overflow="fold")
        table.add_column("basis", justify="right", no_wrap=True)
        for done in report.merged:
            error = f"{done.proof.agreement.error:.1e}"
            table.add_row(done.value, str(len(done.replaces)), done.into, error)
        console.print(table)
    for line in (*_left(report), *graph_words(report)):
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _left(report: "GraphReport") -> list[str]:
    """What was left, one line for each reason (without the names and numbers in it), with an example."""
    import re

    kinds: dict[str, list[Left]] = {}
    for left in report.left:
        kinds.setdefault(re.sub(r"'[^']*'|[\d,]+", "", left.reason), []).append(left)
    return [
        f"Left       {found[0].name}: {found[0].reason}"
        + (f" (and {len(found) - 1} more like it)" if len(found) > 1 else "")
        for found in kinds.values()
    ]


def graph_words(report: "GraphReport") -> list[str]:
    """The proof of a merge by the graph, one line per part."""
    proofs = [done.proof for done in report.merged]
    notes = [f"{'Note':<10} {note}" for note in report.notes]
    if not proofs or report.check is None:
        return ["Nothing to merge in this model.", *notes]
    full = sum(not proof.agreement.combinations for proof in proofs)
    signs = len(proofs) - full
    radius = max(max(proof.radius) for proof in proofs)
    pictures = sum(proof.agreement.pictures for proof in proofs)
    how = [f"{full} on every unit impulse"] * bool(full)
    how += [f"{signs} on 40 random signs for each size (a chance of 2^-40 to miss an error)"] * bool(signs)
    best = sum(not region.optimal for region in report.regions)
    sizes = ", ".join("x".join(map(str, size)) for size in report.check.sizes)
    parts = {
        "Structure": f"{len(proofs)} values, all local, shift-equivariant and affine; radius up to {radius}",
        "Basis": f"{' and '.join(how)}: {pictures:,} pictures of all small sizes, largest difference"
        f" {max(proof.agreement.error for proof in proofs):.1e} of the largest value (at most 1e-12)",
        "Rounding": f"{sum(proof.rounding.weights for proof in proofs):,} stored weights are the rounding of"
        f" the float64 merge; float32 error {max(proof.rounding.error for proof in proofs):.1e}"
        " (at most 1e-5)",
        "Network": f"on random inputs of {sizes}: float32 difference {report.check.error:.1e} of the largest"
        f" output (at most {report.check.allowed:.0e})",
        "Choice": "the cheapest in every region"
        if not best
        else f"the cheapest in all but {best} regions, the best found in those",
    }
    return [*(f"{part:<10} {text}" for part, text in parts.items()), *notes]


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
