"""A sink that writes component shares for TensorBoard."""

from __future__ import annotations

import os

from torch.utils.tensorboard import SummaryWriter

from gradtrace.tracer.adapters.shares import ShareSink
from gradtrace.tracer.steptrace import RunRecord

__all__ = ["TensorBoardSink"]


class TensorBoardSink(ShareSink):
    """Writes each run into a folder of its own below `folder`.

    Curves are `loss` and `MODE/BATCH/share/COMPONENT` (also `foreign_share` and `win_rate`).

    Example:
        >>> Tracer(model, sink=TensorBoardSink("runs"), run="lstm-1", every=10)      # doctest: +SKIP
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        super().__init__()
        self._folder = os.fspath(folder)
        self._writers: dict[str, SummaryWriter] = {}

    def _opened(self, run: str) -> SummaryWriter:
        if run not in self._writers:
            self._writers[run] = SummaryWriter(os.path.join(self._folder, run))
        return self._writers[run]

    def _announce(self, run: RunRecord) -> None:
        told = {"workload": run.workload, "experiment": run.experiment, **run.parameters}
        self._opened(run.id).add_text("parameters", "\n".join(f"- {name}: {value}" for name, value in told.items()))

    def _log(self, run: str, step: int, values: dict[str, float]) -> None:
        writer = self._opened(run)
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    def _end(self, run: str, status: str, reason: str | None) -> None:
        self._opened(run).add_text("status", status if reason is None else f"{status}: {reason}")

    def _flush(self) -> None:
        for writer in self._writers.values():
            writer.flush()

    def _close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
