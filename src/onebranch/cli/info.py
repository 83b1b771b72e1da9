"""`onebranch info`: the content of a model file."""

import json
from typing import TYPE_CHECKING, Any

import click

from onebranch import strict_json
from onebranch.cli.option_groups import INPUT_SIZE_OPTION

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from onebranch.graph.analysis.valid_sizes import InputSize
    from onebranch.model.file import Model
    from onebranch.spec.network import NetworkSpec


@click.command("info")
@click.argument("model")
@INPUT_SIZE_OPTION
@click.option("--all", "everything", is_flag=True, help="Print blocks, proof, all scores and recipe.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def command(model: str, input_size: "InputSize | None", everything: bool, as_json: bool) -> None:
    """Describe MODEL (a shipped name or a file) and show which runtime --runtime auto selects for it.

    A model of onebranch: what it is for, its size, quality, loss in int8, merge and training, each in a line;
    with --all its blocks, merge plan, proof, quantization, scores and training recipe. Any other ONNX file,
    and PyTorch weights: inputs, outputs, scale, halo (the input pixels around a tile that it depends on), the
    multiple that sizes must have, operations, parameters, and whether it can run. The speed of the engine is
    measured on this machine, which takes a moment.
    """
    from onebranch.errors import OnebranchError
    from onebranch.model.catalogue import find, load
    from onebranch.model.third_party import is_third_party_file

    if is_third_party_file(model):
        _print_foreign(str(find(model)), input_size, as_json)
        return
    if input_size is not None:
        raise OnebranchError(
            "--input-size is for ONNX files and PyTorch weights; models of onebranch run on every size"
        )
    loaded = load(model)
    if as_json:
        click.echo(strict_json.dumps(_facts(loaded), indent=2))
        return
    from rich.console import Console

    console = Console()
    if not everything:
        _print_short(console, loaded)
        return
    console.print(f"[bold]{loaded.name}[/bold]: {_summary(loaded.spec)}", highlight=False)
    console.print(_blocks(loaded.spec))
    console.print(_values("cost and halo", _measures(loaded)))
    console.print(_runtimes(loaded))
    record = loaded.quantization or {}
    quantization = {key: record[key] for key in ("calibration", "loss") if record.get(key)}
    if loaded.merge:
        _print_merge(console, loaded)
    tables = {"quantization": quantization, "scores": loaded.scores, "recipe": loaded.recipe}
    for title, values in tables.items():
        if values:
            console.print(_values(title, values))


def _print_short(console: "Console", model: "Model") -> None:
    from onebranch.cli.model_summary import summary_lines

    console.print(f"[bold]{model.name or 'model'}[/bold]", highlight=False)
    for topic, text in summary_lines(model):
        console.print(f"{topic:<10} {text}", highlight=False, markup=False, soft_wrap=True)
    console.print(_runtimes(model))
    console.print("--all prints the blocks, the proof, all scores and the training recipe", highlight=False)


def _print_foreign(path: str, input_size: "InputSize | None", as_json: bool) -> None:
    from onebranch.model.third_party import require_reader

    require_reader(path, "reading")
    from onebranch.cli.foreign import foreign_facts, shown_facts
    from onebranch.model.foreign import read_foreign

    facts = foreign_facts(read_foreign(path, input_size))
    if as_json:
        click.echo(strict_json.dumps(facts, indent=2))
        return
    from rich.console import Console

    console = Console()
    console.print(_values(facts["name"], shown_facts(facts)))
    if facts["refusal"]:
        console.print(f"this model cannot run: {facts['refusal']}", highlight=False, markup=False)


def _print_merge(console: "Console", model: "Model") -> None:
    import msgspec

    from onebranch.cli.proof import print_record
    from onebranch.verification import record_of

    record = record_of(model)
    plan = ", ".join(f"{key} {value}" for key, value in msgspec.to_builtins(record.plan).items())
    console.print(f"merge plan: {plan}", highlight=False)
    print_record(console, record)


def _summary(spec: "NetworkSpec") -> str:
    from onebranch.cli.model_summary import task_words

    words = [task_words(spec), f"picture residual {spec.residual}"]
    words += [f"skip {s.source} -> {s.target} ({s.join})" for s in spec.skips]
    return ", ".join(words)


def _blocks(spec: "NetworkSpec") -> "Table":
    from rich.table import Table

    from onebranch.spec.network import block_macs, block_parameters

    table = Table()
    for heading in ("block", "channels", "branches", "activation", "parameters", "MACs per pixel"):
        table.add_column(heading, justify="right" if heading in ("parameters", "MACs per pixel") else "left")
    for name, block, inputs in spec.walk():
        table.add_row(
            name,
            f"{inputs} -> {block.width}",
            "\n".join(block.branches),
            block.activation,
            f"{block_parameters(block, inputs):,}",
            f"{block_macs(block, inputs):,}",
        )
    return table


def _measures(model: "Model") -> dict[str, Any]:
    """Numbers that are computed from the spec and the weights."""
    from onebranch.graph.analysis.halo import halo
    from onebranch.lowering.floats import lower
    from onebranch.model.file import fingerprint
    from onebranch.spec.network import macs, parameters

    padding = halo(lower(model.spec, model.weights))
    return {
        "parameters": parameters(model.spec),
        "macs_per_input_pixel": macs(model.spec),
        "halo": {side: getattr(padding, side) for side in ("top", "bottom", "left", "right")},
        "precision": "fp32",
        "weights_sha256": fingerprint(model),
    }


def _facts(model: "Model") -> dict[str, Any]:
    from onebranch.spec.network import to_json

    spec = json.loads(to_json(model.spec))
    measured = {"name": model.name, "spec": spec, **_measures(model), "runtimes": _choices(model)}
    measured |= {"fast": _fast(model), "gpus": _gpus()}
    kept = {"recipe": model.recipe, "merge": model.merge, "quantization": model.quantization}
    return {**measured, **kept, "scores": model.scores}


def _choices(model: "Model") -> dict[str, dict[str, Any]]:
    """For every precision: the runtime that "auto" selects, the reason, and the measured speed of the engine.

    runtime: None if no runtime is available; the reason then says what to do. ms_per_megapixel: if the
    runtime is the engine, its time on one core of this machine; see `runtime.speed`.
    """
    from onebranch.errors import OnebranchError
    from onebranch.runtime.selection import PRECISIONS, chosen

    choices: dict[str, dict[str, Any]] = {}
    for precision in PRECISIONS:
        try:
            choice = chosen(model, "auto", precision)
            choices[precision] = {"runtime": choice.runtime, "reason": choice.reason}
            if choice.runtime == "engine":
                from onebranch.runtime.speed import kept_speeds

                speed = kept_speeds(model, (precision,))[precision]
                choices[precision]["ms_per_megapixel"] = round(speed, 1)
        except OnebranchError as error:
            choices[precision] = {"runtime": None, "reason": str(error)}
    return choices


def _runtimes(model: "Model") -> "Table":
    """The runtime for each precision, and the precision that "fast" stands for, as a table."""
    texts = {**_choice_texts(_choices(model)), "fast": "{precision}: {reason}".format(**_fast(model))}
    if gpus := _gpus():
        texts["--device gpu"] = gpus
    return _values("runtime that --runtime auto selects", texts)


def _fast(model: "Model") -> dict[str, str]:
    """The precision that `--precision fast` takes on this machine, and the reason."""
    from onebranch.runtime.selection import fast_choice

    choice = fast_choice(model)
    return {"precision": choice.precision, "reason": choice.reason}


def _gpus() -> str:
    """The GPUs that ONNX Runtime lists, or why there is none; empty without the extra `gpu`."""
    from onebranch.errors import OnebranchError
    from onebranch.extras import missing_packages
    from onebranch.runtime.gpu import gpus

    if missing_packages("gpu"):
        return ""
    try:
        return ", ".join(map(str, gpus("onnxruntime")))
    except OnebranchError as error:
        return str(error)


def _choice_texts(choices: dict[str, dict[str, Any]]) -> dict[str, str]:
    base = choices["fp32"].get("ms_per_megapixel")
    return {key: _choice_text(value, base) for key, value in choices.items()}


def _choice_text(choice: dict[str, Any], base: float | None) -> str:
    """One choice as text. base: milliseconds per megapixel of the input in fp32."""
    text = f"{choice['runtime'] or 'none'}: {choice['reason']}"
    speed = choice.get("ms_per_megapixel")
    if speed is None:
        return text
    slower = ", slower than fp32 on this processor" if base is not None and speed > 1.05 * base else ""
    return f"{text}; {speed:g} ms per megapixel of the input on one core{slower}"


def _values(title: str, values: dict[str, Any]) -> "Table":
    """Nested values as a table of two columns: the keys and the value."""
    from rich.table import Table
    from rich.text import Text  # plain text: brackets in a value are not markup

    from onebranch.cli.words import leaves

    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for path, value in leaves(values):
        table.add_row(Text(" ".join(path)), Text(_text(value)))
    return table


def _text(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return value if isinstance(value, str) else strict_json.dumps(value)
