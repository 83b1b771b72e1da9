"""Printing of a merge and its proof: one table per network, one line per part of the proof."""

from typing import TYPE_CHECKING

from onebranch.errors import counted_noun

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from onebranch.graph.merge.linear import Unmerged
    from onebranch.graph.merge.rewriting import Merged
    from onebranch.merging.report import Check, GraphReport
    from onebranch.proof.region import Proof
    from onebranch.verification import Record


def print_record(console: "Console", record: "Record") -> None:
    """Print the table of blocks, with the basis error of each group of branches, and the proof in words."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading in ("block", "before", "after"):
        table.add_column(heading, no_wrap=True)
    for heading in ("parameters", "MACs per pixel", "basis"):
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
    """Print limits of the size, the merged values, the unmerged operations with reasons, and the proof."""
    from rich import box
    from rich.table import Table

    for limit in report.size_limits:
        console.print(f"{'Size':<10} {limit}", highlight=False, soft_wrap=True, markup=False)
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
    for line in (*_unmerged(report), *graph_words(report)):
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _unmerged(report: "GraphReport") -> list[str]:
    """The unmerged operations, one line with an example for each kind of reason."""
    import re

    kinds: dict[str, list[Unmerged]] = {}
    for entry in report.unmerged:
        kinds.setdefault(re.sub(r"'[^']*'|[\d,]+", "", entry.reason), []).append(entry)
    return [
        f"{'Unmerged':<10} {entries[0].name}: {entries[0].reason}"
        + (f" (and {len(entries) - 1} more like it)" if len(entries) > 1 else "")
        for entries in kinds.values()
    ]


def graph_words(report: "GraphReport") -> list[str]:
    """The proof of a merge by the graph, one line per part."""
    notes = [f"{'Note':<10} {note}" for note in report.notes]
    if not report.merged or report.check is None:
        return ["Nothing to merge in this model.", *notes]
    proofs = [done.proof for done in report.merged]
    radius = max(max(proof.radius) for proof in proofs)
    parts = {
        "Structure": f"{counted_noun(len(proofs), 'value')}, all local, shift-equivariant and affine;"
        f" radius up to {radius}",
        "Basis": _basis(report.merged),
        "Rounding": f"{sum(proof.rounding.weights for proof in proofs):,} stored weights are the rounding of"
        f" the float64 merge; float32 error {max(proof.rounding.error for proof in proofs):.1e}"
        " (at most 1e-5)",
        "Network": _comparison(report.check),
        "Choice": _optimality(report),
    }
    return [*(f"{part:<10} {text}" for part, text in parts.items()), *notes]


def _basis(merged: "Sequence[Merged]") -> str:
    agreements = [done.proof.agreement for done in merged]
    full = sum(not agreement.combinations for agreement in agreements)
    signs = len(agreements) - full
    tested = [f"{full} on every unit impulse"] * bool(full)
    tested += [f"{signs} on 40 random signs for each size (a chance of 2^-40 to miss an error)"] * bool(signs)
    pictures = sum(agreement.pictures for agreement in agreements)
    return (
        f"{' and '.join(tested)}: {pictures:,} pictures of all small sizes, largest difference"
        f" {max(agreement.error for agreement in agreements):.1e} of the largest value (at most 1e-12)"
    )


def _comparison(check: "Check") -> str:
    sizes = ", ".join("x".join(map(str, size)) for size in check.sizes)
    return (
        f"on random inputs of {sizes}: float32 difference {check.error:.1e} of the largest output"
        f" (at most {check.allowed:.0e})"
    )


def _optimality(report: "GraphReport") -> str:
    others = sum(not region.optimal for region in report.regions)
    if not others:
        return "the cheapest in every region"
    return f"the cheapest in all but {counted_noun(others, 'region')}; there, the best that was found"


def words(record: "Record") -> list[str]:
    """The proof of a merge by a plan, one line per part."""
    proofs = [group.proof for block in record.blocks for group in block.groups]
    notes = [f"{'Note':<10} {note}" for note in record.notes]
    if not proofs:
        return ["Nothing to merge under this plan.", *notes]
    pictures = sum(proof.basis.pictures for proof in proofs)
    weights = sum(proof.rounding.weights for proof in proofs)
    network = record.network
    tried = ", ".join(f"{height}x{width}" for height, width in network.sizes)
    radius = max(max(proof.structure.radius) for proof in proofs)
    basis = max(proof.basis.error for proof in proofs)
    rounding = max(proof.rounding.error for proof in proofs)
    parts = {
        "Structure": f"{counted_noun(len(proofs), 'region')}, all local, shift-equivariant and affine;"
        f" radius up to {radius}",
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
    """The picture sizes of the basis, in words."""
    largest = max(max(*proof.basis.heights, *proof.basis.widths) for proof in proofs)
    every = f"every height and width from 1 to 2r + 2 (at most {largest})"
    partial = [proof.structure.radius for proof in proofs if not proof.basis.complete]
    if not partial:
        return every
    return f"{every}, along radii of {min(map(max, partial))} or more only 1, 2, 2r, 2r + 1 and 2r + 2"


def counted(branches: tuple[str, ...]) -> str:
    """The branches, one per line; equal branches are counted.

    >>> counted(("3x3 bn", "3x3 bn", "identity"))
    '2 of 3x3 bn\\nidentity'
    """
    counts = {text: branches.count(text) for text in branches}
    return "\n".join(f"{count} of {text}" if count > 1 else text for text, count in counts.items())
