"""A sink that logs component shares to MLflow."""

from __future__ import annotations

from mlflow.entities import Metric, RunStatus
from mlflow.tracking import MlflowClient

from gradtrace.tracer.adapters.shares import ShareSink
from gradtrace.tracer.steptrace import RunRecord

__all__ = ["MlflowSink"]

_STATUS = {"FINISHED": RunStatus.FINISHED, "INTERRUPTED": RunStatus.KILLED, "FAILED": RunStatus.FAILED}
_MOST = 1000
"""Metrics that MLflow takes in one call."""


class MlflowSink(ShareSink):
    """Logs each run as one of MLflow's, in the MLflow experiment of the run's experiment name.

    Metrics are `loss` and `MODE/BATCH/share/COMPONENT` (also `foreign_share`, `win_rate`). A run that is already in that
    MLflow experiment under the same name is gone on with.

    Args:
        uri: MLflow's tracking URI (`"sqlite:///mlflow.db"`, `"http://..."`); None for the one that MLflow is set to.

    Example:
        >>> Tracer(model, sink=MlflowSink("sqlite:///mlflow.db"), run="lstm-1", every=10)      # doctest: +SKIP
    """

    def __init__(self, uri: str | None = None) -> None:
        super().__init__()
        self._client = MlflowClient(uri)
        self._ids: dict[str, str] = {}

    def _announce(self, run: RunRecord) -> None:
        known = self._client.get_experiment_by_name(run.experiment)
        experiment = self._client.create_experiment(run.experiment) if known is None else known.experiment_id
        quoted = run.id.replace("'", "\\'")
        found = self._client.search_runs([experiment], f"attributes.run_name = '{quoted}'", max_results=1)
        made = found[0] if found else self._client.create_run(experiment, run_name=run.id)
        self._ids[run.id] = made.info.run_id
        for name, value in {"workload": run.workload, **run.parameters}.items():
            self._client.log_param(made.info.run_id, name, value)

    def _log(self, run: str, step: int, values: dict[str, float]) -> None:
        if run not in self._ids:
            self._announce(RunRecord(run, "unknown", "default", {}))
        metrics = [Metric(_name(name), value, 0, step) for name, value in values.items()]
        for start in range(0, len(metrics), _MOST):
            self._client.log_batch(self._ids[run], metrics[start : start + _MOST])

    def _end(self, run: str, status: str, reason: str | None) -> None:
        if run in self._ids:
            if reason is not None:
                self._client.set_tag(self._ids[run], "reason", reason)
            self._client.set_terminated(self._ids[run], RunStatus.to_string(_STATUS[status]))

    def _flush(self) -> None:
        """The client sends at once."""

    def _close(self) -> None:
        self._ids.clear()


def _name(name: str) -> str:
    """`name` with what MLflow allows in a metric's name: letters, digits and `_-. :/`."""
    return "".join(c if c.isalnum() or c in "_-. :/" else "_" for c in name)
