"""Networks in every runtime at hand: time, share of the machine's peak, memory, first call, loss of quality.

Each network's candidates and the measurements of the peaks take turns in one interleaved run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np

from onebranch.bench.alone import Cost, alone
from onebranch.bench.interleaved import USUAL, Turns, in_turns, ratio
from onebranch.bench.networks import Network, network
from onebranch.bench.ways import BASELINE, Run, Way
from onebranch.errors import OnebranchError
from onebranch.runtime.engine_library import available
from onebranch.runtime.selection import PRECISIONS
from onebranch.spec.network import macs, parameters

SIZE = (540, 960)
"""Height and width of the input, a quarter of a full-HD frame, in pixels."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """One network in one way.

    seconds: of a run, in each round. megapixels: of output, a second. share: of the peak, None where that is
    not known. megabytes, first_milliseconds: see `alone.Cost`. ratio: how many times faster than ONNX Runtime
    on the merged network as it is exported. loss_db: PSNR lost against fp32, None where not measured.
    parameters, macs: of the form that runs; macs for one input pixel.
    """

    network: str
    about: str
    way: str
    runtime: str
    form: str
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
        """Everything as JSON values."""
        return {**asdict(self), "milliseconds": self.milliseconds}


@dataclass(frozen=True)
class Result:
    """rows: what was measured. peaks: multiply-accumulates a second by precision, the median of all networks'
    runs. notes: what was left out and why."""

    rows: tuple[Row, ...]
    peaks: Mapping[str, float]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Settings:
    """size: height and width. data: a folder to measure losses of quality on. alone: whether every way also
    runs in a process of its own, for its memory and its first call."""

    size: tuple[int, int] = SIZE
    rounds: int = 5
    threads: int = 1
    data: str | None = None
    alone: bool = True
    turns: Turns = USUAL


def compare(
    names: Sequence[str], ways: Sequence[Way], settings: Settings, shown: Progress = lambda line: None
) -> Result:
    """Every network in every way that can run it. Raises OnebranchError where none can run any."""
    rows: list[Row] = []
    peaks: list[Mapping[str, float]] = []
    notes: list[str] = []
    for name in names:
        shown(f"{name}: making the network")
        found, rates = _measured(network(name), ways, settings, notes.append, shown)
        rows += found
        peaks.append(rates)
    if not rows:
        raise OnebranchError(f"nothing here can be measured: {'; '.join(notes)}")
    rates = {
        p: median(each[p] for each in peaks if p in each) for p in PRECISIONS if any(p in e for e in peaks)
    }
    return Result(tuple(rows), rates, tuple(dict.fromkeys(notes)))


def _measured(
    net: Network, ways: Sequence[Way], settings: Settings, note: Progress, shown: Progress
) -> tuple[list[Row], Mapping[str, float]]:
    possible = [way for way in ways if _possible(way, net, note)]
    costs = {}
    for way in possible if settings.alone else ():
        shown(f"{net.name}: {way.label} in a process of its own")
        costs[way.label] = _cost(way, net, settings)
    shown(f"{net.name}: opening")
    runs = _opened(net, possible, settings, note)
    shown(f"{net.name}: taking turns")
    meters = _peaks(net, settings.threads)
    seconds = in_turns({**runs, **meters}, settings.rounds, settings.turns)
    rates = {precision: meter.rate for precision, meter in meters.items()}
    losses = _losses(net, [way for way in possible if way.label in runs], settings, shown)
    return [
        _row(net, way, seconds, rates, settings.size, costs.get(way.label), losses.get(way.label))
        for way in possible
        if way.label in runs
    ], rates


def _possible(way: Way, net: Network, note: Progress) -> bool:
    reason = way.reason_against(net)
    if reason:
        where = "" if reason.endswith("installed") else f" for {net.name}"
        note(f"{way.label} is left out{where}: {reason}")
    return not reason


def _cost(way: Way, net: Network, settings: Settings) -> Cost:
    model = way.model_of(net)
    assert model is not None, "possible ways have one"
    return alone(way, model, settings.size, settings.threads)


def _opened(
    net: Network, ways: Sequence[Way], settings: Settings, note: Progress
) -> dict[str, Callable[[], object]]:
    """The ways as candidates, by their labels, on the same random picture."""
    picture = np.random.default_rng(0).random((1, net.merged.spec.channels, *settings.size), np.float32)
    runs: dict[str, Callable[[], object]] = {}
    for way in ways:
        model = way.model_of(net)
        assert model is not None, "possible ways have one"
        try:
            runs[way.label] = _on(way.opened(model, settings.threads), picture)
        except OnebranchError as error:
            note(f"{way.label} is left out for {net.name}: {error}")
    return runs


def _on(run: Run, picture: np.ndarray) -> Callable[[], object]:
    return lambda: run(picture)


def _peaks(net: Network, threads: int) -> dict[str, Any]:
    """The meters of the peaks by precision; none without the engine."""
    from onebranch.runtime.engine_network import describe, reason_against

    if available() or reason_against(net.merged):
        return {}
    from onebranch.bench.peaks import Peak
    from onebranch.runtime.engine import Engine

    engine = Engine(describe(net.merged), threads)
    return {precision: Peak(engine, precision) for precision in PRECISIONS}


def _row(
    net: Network,
    way: Way,
    seconds: Mapping[str, Sequence[float]],
    peaks: Mapping[str, float],
    size: tuple[int, int],
    cost: Cost | None,
    loss: float | None,
) -> Row:
    model = way.model_of(net)
    assert model is not None, "possible ways have one"
    own = list(seconds[way.label])
    pixels, work = size[0] * size[1], macs(model.spec)
    rate = work * pixels / median(own)
    return Row(
        network=net.name,
        about=net.about,
        way=way.label,
        runtime=way.runtime,
        form=way.form,
        precision=way.precision,
        seconds=tuple(own),
        megapixels=pixels * model.spec.scale**2 / median(own) / 1e6,
        share=rate / peaks[way.precision] if way.precision in peaks else None,
        megabytes=cost.megabytes if cost else None,
        first_milliseconds=cost.milliseconds if cost else None,
        ratio=ratio(list(seconds[BASELINE]), own) if BASELINE in seconds else None,
        loss_db=loss,
        parameters=parameters(model.spec),
        macs=work,
    )


def _losses(
    net: Network, ways: Sequence[Way], settings: Settings, shown: Progress
) -> dict[str, float | None]:
    """Decibels lost against fp32 by label: on the folder, or as the quantized file says."""
    reduced = [way for way in ways if way.precision != "fp32" and net.shipped]
    if settings.data is None:
        return {way.label: _recorded_loss(net) for way in reduced if way.label == "engine int8"}
    if not reduced:
        return {}
    from onebranch.evaluation import evaluate

    def score(model: Any, runtime: str, precision: str) -> float:
        shown(f"{net.name}: scores in {runtime} {precision}")
        found = evaluate(model, str(settings.data), runtime=runtime, precision=precision)
        return found.mean.scores.psnr_y

    whole = score(net.merged, "auto", "fp32")
    return {way.label: whole - score(way.model_of(net), way.runtime, way.precision) for way in reduced}


def _recorded_loss(net: Network) -> float | None:
    """What the quantized file says that it loses."""
    record = net.quantized.quantization if net.quantized else None
    found = (record or {}).get("loss") or {}
    return float(found["loss_db"]) if "loss_db" in found else None
