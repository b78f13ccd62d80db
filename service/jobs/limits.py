"""How long things may take in a worker, and how they hang together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gradtrace.service.settings import Settings

QUEUE = "gradtrace.segments"
CONTROL = "gradtrace.control"
SEGMENT = "gradtrace.segment"
REAP = "gradtrace.reap"


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds.

    Attributes:
        segment: after so long a segment ends at the next step's border, and another run may have its turn.
        segment_steps: the same in optimizer steps; None for no such limit.
        checkpoint: so long between two checkpoints within a segment.
        checkpoint_steps: the same in optimizer steps; None for no such limit.
        lease: a worker that is not heard of for so long has lost its run.
        soft: a segment that takes longer is interrupted by an exception in the workload.
        hard: one that takes longer still is killed.
        visibility: Redis delivers a ticket again that was not acknowledged for so long.
        reap: so often the queue is compared with the store.
        patience: so long a segment waits for a store that went away, before it gives up.
        attempts: tries without progress before a run is FAILED.
        memory: bytes of memory that a worker's process may take; None for no limit.
    """

    segment: float
    segment_steps: int | None
    checkpoint: float
    checkpoint_steps: int | None
    lease: float
    soft: float
    hard: float
    visibility: float
    reap: float
    patience: float
    attempts: int
    memory: int | None

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """The limits that the settings give.

        The hard limit is under a third of the time after which Redis redelivers, so that no ticket is delivered again
        while its segment may still run.
        """
        hard = settings.time_limit * 1.1 + 5
        return cls(
            segment=min(settings.segment_seconds, settings.time_limit / 2),
            segment_steps=settings.segment_steps,
            checkpoint=settings.checkpoint_seconds,
            checkpoint_steps=settings.checkpoint_steps,
            lease=settings.lease_seconds,
            soft=settings.time_limit,
            hard=hard,
            visibility=hard * 3.5,
            reap=settings.reap_seconds,
            patience=settings.store_patience,
            attempts=settings.max_attempts,
            memory=settings.worker_memory * 2**20 if settings.worker_memory else None,
        )


def checkpoint_root(settings: Settings) -> Path:
    """The folder of all checkpoints: as set, else in the data folder."""
    if settings.checkpoints is not None:
        return settings.checkpoints
    from gradtrace.service.local import default_data

    return (settings.data or default_data()) / "checkpoints"
