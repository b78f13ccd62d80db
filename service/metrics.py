"""Metrics in Prometheus' format, at an address or in a file; off unless the settings ask for them.

    gradtrace_steps_total{traced}          optimizer steps taken
    gradtrace_steps_stored_total           traced steps that became durable
    gradtrace_writer_waiting_steps         traced steps that wait to be stored
    gradtrace_writer_lag_seconds           how long they waited (histogram)
    gradtrace_retries_total{of}            what was tried again: "store" (a write), "segment"
    gradtrace_segments_total{outcome}      segments that ended, and how
    gradtrace_queue_messages{queue,state}  messages in the queue, "waiting" or "unacknowledged"

The functions that count do nothing, and load nothing, while metrics are off. A worker's training processes count in files
of a folder, which its parent adds up; the counts begin anew with the worker.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from gradtrace.service.settings import Settings

log = logging.getLogger("gradtrace.metrics")

Queues = Callable[[], dict[tuple[str, str], int]]
"""Gives (queue, "waiting" or "unacknowledged") → messages."""

FILE_SECONDS = 15.0
_FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_LAGS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

_on = False
_made: Instruments | None = None


class Instruments:
    """The counters of this process."""

    def __init__(self) -> None:
        from prometheus_client import Counter, Gauge, Histogram

        self.steps = Counter("gradtrace_steps", "Optimizer steps taken.", ["traced"])
        self.stored = Counter("gradtrace_steps_stored", "Traced steps that became durable.")
        self.waiting = Gauge(
            "gradtrace_writer_waiting_steps", "Traced steps that wait to be stored.", multiprocess_mode="livesum"
        )
        self.lag = Histogram(
            "gradtrace_writer_lag_seconds", "How long traced steps waited to be stored.", buckets=_LAGS
        )
        self.retries = Counter("gradtrace_retries", "What was tried again.", ["of"])
        self.segments = Counter("gradtrace_segments", "Segments that ended, and how.", ["outcome"])


def count_step(traced: bool) -> None:
    """An optimizer step was taken."""
    if made := _instruments():
        made.steps.labels("yes" if traced else "no").inc()


def count_stored(steps: int, lag: float) -> None:
    """Steps became durable, the oldest of them `lag` seconds after it was handed over."""
    if made := _instruments():
        made.stored.inc(steps)
        made.lag.observe(lag)


def set_waiting(steps: int) -> None:
    """So many steps wait to be stored now."""
    if made := _instruments():
        made.waiting.set(steps)


def count_retry(of: str) -> None:
    """Something was tried again: "store" or "segment"."""
    if made := _instruments():
        made.retries.labels(of).inc()


def count_segment(outcome: str) -> None:
    """A segment ended."""
    if made := _instruments():
        made.segments.labels(outcome).inc()


def wanted(settings: Settings) -> bool:
    """Whether the settings ask for metrics."""
    return settings.metrics_port is not None or settings.metrics_file is not None


def start(settings: Settings, *, folder: Path | None = None, queues: Queues | None = None) -> Callable[[], None]:
    """Begin to count, and to answer at the address or write the file that the settings name; nothing if they name none.

    Args:
        settings: `metrics_port`, `metrics_host` and `metrics_file` are read.
        folder: where this process and those it forks later count together; emptied now. None: this process alone.
        queues: asked for the length of the queue whenever the metrics are.

    Returns:
        A function that ends it, the last numbers written.

    Raises:
        OSError: the port is taken, or the file cannot be written.
    """
    global _on
    if not wanted(settings):
        return lambda: None
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
        os.environ[_FOLDER_VARIABLE] = str(folder)  # prometheus_client looks at it when it is imported
    _on = True
    _instruments()
    registry = _registry(folder, queues)
    ends: list[Callable[[], None]] = []
    if settings.metrics_port is not None:
        ends.append(_serve(settings.metrics_host, settings.metrics_port, registry))
    if settings.metrics_file is not None:
        ends.append(_write_often(settings.metrics_file, registry))

    def end() -> None:
        for one in ends:
            one()

    return end


def _instruments() -> Instruments | None:
    global _made
    if _on and _made is None:
        _made = Instruments()
    return _made


def _registry(folder: Path | None, queues: Queues | None) -> CollectorRegistry:
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry()  # the default one also tells Python's own affairs
    if folder is None:
        for collector in _own():
            registry.register(collector)
    else:
        registry.register(_Together(folder))
    if queues is not None:
        registry.register(_Queues(queues))
    return registry


def _own() -> list[Any]:
    made = _instruments()
    assert made is not None, "metrics are on"
    return list(vars(made).values())


class _Together:
    """The sums over all processes that count in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        """What a registry asks for."""
        import psutil
        from prometheus_client import CollectorRegistry, multiprocess

        for path in self._folder.glob("gauge_live*.db"):
            number = path.stem.rpartition("_")[2]
            if number.isdigit() and not psutil.pid_exists(int(number)):
                multiprocess.mark_process_dead(int(number), str(self._folder))  # nothing of a dead process waits
        yield from multiprocess.MultiProcessCollector(CollectorRegistry(), str(self._folder)).collect()


class _Queues:
    """The lengths of the queues, looked up whenever they are asked for."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    def collect(self) -> Iterator[Metric]:
        """What a registry asks for; nothing while the queue does not answer."""
        from prometheus_client.core import GaugeMetricFamily

        from gradtrace.tracer.errors import BrokerError

        family = GaugeMetricFamily("gradtrace_queue_messages", "Messages in the queue.", labels=["queue", "state"])
        try:
            for (queue, state), count in self._queues().items():
                family.add_metric([queue, state], count)
        except BrokerError as error:
            log.warning("The queue's length is not known: %s", error)
            return
        yield family


def _serve(host: str, port: int, registry: CollectorRegistry) -> Callable[[], None]:
    from prometheus_client import start_http_server

    server, thread = start_http_server(port, addr=host, registry=registry)
    log.info("Metrics are at http://%s:%d/metrics", host, server.server_port)

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return end


def _write_often(path: Path, registry: CollectorRegistry) -> Callable[[], None]:
    from prometheus_client import write_to_textfile

    over = threading.Event()
    write_to_textfile(str(path), registry)  # what cannot work is to fail now

    def loop() -> None:
        last = False
        while not last:
            last = over.wait(FILE_SECONDS)
            try:
                write_to_textfile(str(path), registry)
            except OSError as error:
                log.error("The metrics file %s cannot be written: %s", path, error)

    thread = threading.Thread(target=loop, name="gradtrace-metrics", daemon=True)
    thread.start()

    def end() -> None:
        over.set()
        thread.join()

    return end
