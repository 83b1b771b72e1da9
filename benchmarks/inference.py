"""Networks in every installed runtime: time, share of the machine's peak, memory, first run, loss of quality.

The configurations of a network and the measurements of the peaks are timed in one interleaved run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np

from benchmarks.configurations import BASELINE, Configuration, Run
from benchmarks.isolated import FirstRunCost, measure_first_run
from benchmarks.networks import Network, network
from onebranch.bench import DEFAULT_PACING, FRAME_SIZE, Pacing, median_ratio, time_interleaved
from onebranch.errors import OnebranchError
from onebranch.runtime.engine_library import available
from onebranch.runtime.selection import PRECISIONS
from onebranch.spec.network import macs, parameters

Progress = Callable[[str], None]


@dataclass(frozen=True)
class InferenceRow:
    """One network in one configuration.

    seconds: of a run, in each round. megapixels: of output per second. share: of the machine's peak; None if
    that is unknown. megabytes, first_milliseconds: see `FirstRunCost`. ratio: times faster than ONNX Runtime
    on the merged network as it is exported. loss_db: PSNR lost against fp32; None if it was not measured.
    parameters, macs: of the form that runs; macs per input pixel.
    """

    network: str
    description: str
    label: str
    runtime: str
    structure: str
    precision: str
    seconds: tuple[float, ...]
    megapixels: float
    share: float | None
    megabytes: float | None
    first_milliseconds: float | None
    ratio: float | None
    loss_db: float | None
    parameters: int
    macs: int

    @property
    def milliseconds(self) -> float:
        """The median."""
        return 1e3 * median(self.seconds)

    def as_json(self) -> dict[str, Any]:
        """Every field, and the median, as JSON values."""
        return {**asdict(self), "milliseconds": self.milliseconds}


@dataclass(frozen=True)
class InferenceResult:
    """peaks: multiply-accumulates per second by precision, medians over the networks. notes: a line for each
    configuration that was skipped, with the reason."""

    rows: tuple[InferenceRow, ...]
    peaks: Mapping[str, float]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class InferenceSettings:
    """size: height and width of the input. data: a folder on which the loss of quality is measured. isolated:
    True to measure memory and the first run of each configuration in a separate process."""

    size: tuple[int, int] = FRAME_SIZE
    rounds: int = 5
    threads: int = 1
    data: str | None = None
    isolated: bool = True
    pacing: Pacing = DEFAULT_PACING


def compare(
    names: Sequence[str],
    configurations: Sequence[Configuration],
    settings: InferenceSettings,
    report: Progress = lambda line: None,
) -> InferenceResult:
    """Time every network in every configuration that can run it.

    report: receives lines of progress. Raises OnebranchError if no configuration can run any network.
    """
    rows: list[InferenceRow] = []
    peaks: list[Mapping[str, float]] = []
    notes: list[str] = []
    for name in names:
        report(f"{name}: making the network")
        new_rows, rates = _measured(network(name), configurations, settings, notes.append, report)
        rows += new_rows
        peaks.append(rates)
    if not rows:
        raise OnebranchError(f"nothing can be measured: {'; '.join(notes)}")
    rates = {
        p: median(each[p] for each in peaks if p in each) for p in PRECISIONS if any(p in e for e in peaks)
    }
    return InferenceResult(tuple(rows), rates, tuple(dict.fromkeys(notes)))


def _measured(
    net: Network,
    configurations: Sequence[Configuration],
    settings: InferenceSettings,
    note: Progress,
    report: Progress,
) -> tuple[list[InferenceRow], Mapping[str, float]]:
    possible = [each for each in configurations if _is_possible(each, net, note)]
    costs = {}
    for each in possible if settings.isolated else ():
        report(f"{net.name}: {each.label} in a separate process")
        costs[each.label] = _first_run_cost(each, net, settings)
    report(f"{net.name}: opening")
    runs = _opened(net, possible, settings, note)
    report(f"{net.name}: timing")
    meters = _peaks(net, settings.threads)
    seconds = time_interleaved({**runs, **meters}, settings.rounds, settings.pacing)
    rates = {precision: meter.rate for precision, meter in meters.items()}
    opened = [each for each in possible if each.label in runs]
    losses = _losses(net, opened, settings, report)
    return [
        _row(net, each, seconds, rates, settings.size, costs.get(each.label), losses.get(each.label))
        for each in opened
    ], rates


def _is_possible(configuration: Configuration, net: Network, note: Progress) -> bool:
    reason = configuration.unsupported_reason(net)
    if reason:
        network_name = "" if reason.endswith("installed") else f" for {net.name}"
        note(f"{configuration.label} is skipped{network_name}: {reason}")
    return not reason


def _first_run_cost(configuration: Configuration, net: Network, settings: InferenceSettings) -> FirstRunCost:
    model = configuration.model_for(net)
    assert model is not None, "possible configurations have a model"
    return measure_first_run(configuration, model, settings.size, settings.threads)


def _opened(
    net: Network, configurations: Sequence[Configuration], settings: InferenceSettings, note: Progress
) -> dict[str, Callable[[], object]]:
    """The configurations by label, each as a function that runs the same random picture."""
    picture = np.random.default_rng(0).random((1, net.merged.spec.channels, *settings.size), np.float32)
    runs: dict[str, Callable[[], object]] = {}
    for each in configurations:
        model = each.model_for(net)
        assert model is not None, "possible configurations have a model"
        try:
            runs[each.label] = _bind(each.open(model, settings.threads), picture)
        except OnebranchError as error:
            note(f"{each.label} is skipped for {net.name}: {error}")
    return runs


def _bind(run: Run, picture: np.ndarray) -> Callable[[], object]:
    return lambda: run(picture)


def _peaks(net: Network, threads: int) -> dict[str, Any]:
    """A measurement of the machine's peak for each precision; empty without the engine."""
    from onebranch.runtime.engine_network import describe, reason_against

    if available() or reason_against(net.merged):
        return {}
    from benchmarks.peaks import Peak
    from onebranch.runtime.engine import Engine

    engine = Engine(describe(net.merged), threads)
    return {precision: Peak(engine, precision) for precision in PRECISIONS}


def _row(
    net: Network,
    configuration: Configuration,
    seconds: Mapping[str, Sequence[float]],
    peaks: Mapping[str, float],
    size: tuple[int, int],
    cost: FirstRunCost | None,
    loss: float | None,
) -> InferenceRow:
    model = configuration.model_for(net)
    assert model is not None, "possible configurations have a model"
    times = list(seconds[configuration.label])
    pixels, work = size[0] * size[1], macs(model.spec)
    rate = work * pixels / median(times)
    return InferenceRow(
        network=net.name,
        description=net.description,
        label=configuration.label,
        runtime=configuration.runtime,
        structure=configuration.structure,
        precision=configuration.precision,
        seconds=tuple(times),
        megapixels=pixels * model.spec.scale**2 / median(times) / 1e6,
        share=rate / peaks[configuration.precision] if configuration.precision in peaks else None,
        megabytes=cost.megabytes if cost else None,
        first_milliseconds=cost.milliseconds if cost else None,
        ratio=median_ratio(list(seconds[BASELINE]), times) if BASELINE in seconds else None,
        loss_db=loss,
        parameters=parameters(model.spec),
        macs=work,
    )


def _losses(
    net: Network, configurations: Sequence[Configuration], settings: InferenceSettings, report: Progress
) -> dict[str, float | None]:
    """Decibels lost against fp32 by label: on the folder, or as recorded in the quantized file."""
    reduced = [each for each in configurations if each.precision != "fp32" and net.shipped]
    if settings.data is None:
        return {each.label: _recorded_loss(net) for each in reduced if each.label == "engine int8"}
    if not reduced:
        return {}
    from onebranch.evaluation import evaluate

    def score(model: Any, runtime: str, precision: str) -> float:
        report(f"{net.name}: scores in {runtime} {precision}")
        evaluation = evaluate(model, str(settings.data), runtime=runtime, precision=precision)
        return evaluation.mean.scores.psnr_y

    fp32 = score(net.merged, "auto", "fp32")
    return {each.label: fp32 - score(each.model_for(net), each.runtime, each.precision) for each in reduced}


def _recorded_loss(net: Network) -> float | None:
    """The loss that is recorded in the quantized file."""
    record = net.quantized.quantization if net.quantized else None
    loss = (record or {}).get("loss") or {}
    return float(loss["loss_db"]) if "loss_db" in loss else None
