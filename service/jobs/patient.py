"""A sink that waits for its store: no traced step is lost because the store was away for a while."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from gradtrace.service.store.sink import Neo4jSink
from gradtrace.tracer.errors import SinkFullError, StoreUnreachableError
from gradtrace.tracer.steptrace import RunRecord, StepTrace

log = logging.getLogger(__name__)
_PAUSE = 0.5
T = TypeVar("T")


class PatientSink:
    """Passes on to a `Neo4jSink`, and tries again while the store is away, for so many seconds.

    Args:
        sink: where everything goes; its queue keeps the steps meanwhile.
        patience: seconds.
        hopeless: asked between two tries; True gives up at once.

    Raises:
        StoreUnreachableError: by every method, when patience is at its end. Whatever was written since the last `flush`
            may not be stored.
    """

    def __init__(self, sink: Neo4jSink, patience: float, hopeless: Callable[[], bool]) -> None:
        self._sink, self._patience, self._hopeless = sink, patience, hopeless

    def set_fence(self, run: str, fence: int) -> None:
        """Pass on."""
        self._sink.set_fence(run, fence)

    def open_run(self, run: RunRecord) -> None:
        """Pass on."""
        self._persist(lambda: self._sink.open_run(run))

    def write(self, step: StepTrace) -> None:
        """Pass on; a step that the queue did not take for the store's absence is handed over again."""
        try:
            self._sink.write(step)
        except (StoreUnreachableError, SinkFullError) as error:
            self._say(error)
            self.flush()
            self._persist(lambda: self._sink.write(step))  # one that was taken is not stored twice

    def flush(self) -> int:
        """Pass on; the number of durable steps."""
        return self._persist(self._sink.flush)

    def note_held_out(self, run: str, measured: Mapping[str, float]) -> None:
        """Pass on."""
        self._persist(lambda: self._sink.note_held_out(run, measured))

    def close_run(self, run: str, status: str, reason: str | None = None) -> None:
        """Pass on."""
        self._persist(lambda: self._sink.close_run(run, status, reason))

    def close(self) -> None:
        """Pass on, once; what is not durable is given up, since the segment will be trained again."""
        self._sink.close(discard=True)

    def _persist(self, work: Callable[[], T]) -> T:
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return work()
            except (StoreUnreachableError, SinkFullError) as error:
                if time.monotonic() >= deadline or self._hopeless():
                    raise
                self._say(error)
                time.sleep(_PAUSE)

    def _say(self, error: Exception) -> None:
        log.warning("The store is away; training waits. %s", error)
