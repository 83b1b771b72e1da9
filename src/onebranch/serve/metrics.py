"""The metrics of the service, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from onebranch.serve.admission import Admission

SECONDS_BUCKETS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)


class Metrics:
    """The counters of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "onebranch_requests", "Completed requests.", ["route", "status"], registry=self.registry
        )
        self.refusals = Counter(
            "onebranch_refusals", "Refused requests by reason.", ["reason"], registry=self.registry
        )
        self.failures = Counter(
            "onebranch_failures",
            "Responses that ended before they were complete, and jobs that failed, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "onebranch_request_seconds",
            "Seconds until a response was complete.",
            ["route"],
            buckets=SECONDS_BUCKETS,
            registry=self.registry,
        )
        self.pixels = Counter(
            "onebranch_result_pixels", "Pixels of complete results.", registry=self.registry
        )

    def watch(self, admission: Admission) -> None:
        """Also report the numbers of running and waiting pictures."""
        running = Gauge("onebranch_running", "Pictures whose process runs.", registry=self.registry)
        waiting = Gauge("onebranch_waiting", "Pictures that wait for a process.", registry=self.registry)
        running.set_function(lambda: admission.running)
        waiting.set_function(lambda: admission.waiting)

    def text(self) -> bytes:
        """All counters in Prometheus's text format."""
        return generate_latest(self.registry)
