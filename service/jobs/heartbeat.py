"""A segment's sign of life: a thread that keeps the lease, tells how far the segment is, and watches the memory."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

import psutil

from gradtrace.service.jobs.limits import Limits
from gradtrace.service.store.jobs import Grant, Jobs
from gradtrace.tracer.errors import GradtraceError, StaleFenceError

if TYPE_CHECKING:
    from gradtrace.service.segments import Progress

log = logging.getLogger(__name__)
_MOST_SECONDS = 2.0
_LOOK_SECONDS = 0.25


class Heartbeat:
    """Runs while a segment does.

    Args:
        jobs: where the lease is kept.
        grant: the run that this worker holds.
        limits: how long things may take.
        begun: when the time limits of the segment began to count, by `time.monotonic()`.

    Attributes:
        lost: another worker holds the run; this one may write no more.
        cancel: someone wants the run cancelled.
        live: how far the segment is, as properties of the run.
    """

    def __init__(self, jobs: Jobs, grant: Grant, limits: Limits, begun: float) -> None:
        self.lost = self.cancel = False
        self._jobs, self._grant, self._limits = jobs, grant, limits
        self.live: dict[str, Any] = {}
        self._begun, self._warned = begun, False
        self._since, self._first = time.monotonic(), grant.position
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, name="gradtrace-heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """No sign of life any more; a second call does nothing."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()

    def begin(self, done: int, steps: int) -> None:
        """Training begins after `done` of `steps` steps."""
        self._since, self._first = time.monotonic(), done
        self.live = {"live_step": done, "planned": steps}

    def tell(self, progress: Progress) -> None:
        """A step is over."""
        seconds = time.monotonic() - self._since
        self.live = {
            "live_step": progress.done,
            "live_loss": progress.loss,
            "live_rate": (progress.done - self._first) / seconds if seconds > 0 else None,
            "planned": progress.steps,
        }

    def _work(self) -> None:
        interval = min(self._limits.lease / 3, _MOST_SECONDS)
        due = time.monotonic() + interval
        process = psutil.Process()
        while not self._end.wait(min(_LOOK_SECONDS, interval)):
            self._check_memory(process)
            self._check_time()
            if time.monotonic() >= due:
                self._renew()
                due = time.monotonic() + interval
            if self.lost:
                return

    def _renew(self) -> None:
        try:
            self.cancel = self._jobs.renew(self._grant, self._limits.lease, self.live) or self.cancel
        except StaleFenceError as error:
            log.warning("The run is lost to this worker. %s", error)
            self.lost = True
        except GradtraceError as error:  # the store is away: the sink sees to that, and the fence stays the judge
            log.info("No sign of life could be given: %s", error)

    def _check_time(self) -> None:
        """Note why this process is about to be killed: the workload did not even end by an exception when it had to."""
        limits = self._limits
        if self._warned or time.monotonic() - self._begun < limits.soft + (limits.hard - limits.soft) / 4:
            return
        self._warned = True
        problem = f"it took longer than {limits.soft:g} s (GRADTRACE_TIME_LIMIT), and went on when told to stop"
        log.error("Run %s: %s. The process will be killed.", self._grant.run, problem)
        with contextlib.suppress(GradtraceError):
            self._jobs.note(self._grant, problem)

    def _check_memory(self, process: psutil.Process) -> None:
        """End this process before the machine has to: with a word on why."""
        limit = self._limits.memory
        if limit is None:
            return
        taken = process.memory_info().rss
        if taken <= limit:
            return
        problem = (
            f"its process took {taken / 2**20:,.0f} MiB of memory, more than the {limit / 2**20:,.0f} MiB of "
            "GRADTRACE_WORKER_MEMORY"
        )
        log.error("Run %s: %s. The process is killed.", self._grant.run, problem)
        try:
            self._jobs.note(self._grant, problem)
        except GradtraceError as error:
            log.error("That could not be noted: %s", error)
        os.kill(os.getpid(), signal.SIGKILL)
