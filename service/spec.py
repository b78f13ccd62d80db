"""What a run is to do, checked before anything that it names is imported.

A spec may come from a person (`spec_from_text`: values are text, as after `--set`) or from a queue (`spec_from_json`:
values must already have the right type). Both refuse unknown names, wrong types and values out of bounds by
`SpecError`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    StringConstraints,
    ValidationError,
    field_validator,
)
from pydantic_core import ErrorDetails

from gradtrace.service.suggest import choices
from gradtrace.service.workloads.parameters import WorkloadParameters
from gradtrace.service.workloads.registry import DEFAULT, Workload, find
from gradtrace.tracer.errors import SpecError

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]*$", max_length=100)]
Scalar = str | int | float | bool | None
MAX_JSON = 100_000
"""Characters of a JSON spec that are looked at; more is refused unread."""


FOLD_EDGES = 2000
"""The default of the tracer (`gradtrace.tracer.fold`), which is not imported here, since it loads numpy."""
GRAPH_BUDGET = 200_000
"""Likewise (`gradtrace.tracer.scalargraph`); the store takes no larger scalar graph."""
_FIRST = frozenset(
    {
        "workload",
        "parameters",
        "experiment",
        "every",
        "batches",
        "modes",
        "watch",
        "blocked",
        "top_routes",
        "fold",
        "fold_edges",
        "non_finite",
        "on_error",
        "kernels",
        "threads",
    }
)
"""Fields that a spec's `identity` has always had. Those that came later stand in it only where they are not at their default."""
BLOCKED = "blocked"
"""Name of the stored parameter that says what is blocked."""


class RunSpec(BaseModel):
    """One run: which workload with which hyperparameters, and what to trace of it.

    Example:
        >>> spec = spec_from_text("digits-mlp", {"lr": "0.01"}, every="log")
        >>> spec.workload, spec.parameters.lr, spec.traces(18), spec.traces(19)
        ('digits-mlp', 0.01, True, False)
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    workload: str = Field(default=DEFAULT, max_length=100, description="name of the workload")
    parameters: SerializeAsAny[WorkloadParameters] = Field(description="its hyperparameters")
    experiment: Name = Field(default="default", description="name that groups runs")
    every: Annotated[int, Field(ge=1, le=10**9)] | Literal["log"] = Field(
        default=10, description='trace every n-th step, or "log": ever further apart'
    )
    batches: Literal["training", "probe", "both"] = Field(default="training", description="on which batch to trace")
    modes: tuple[Literal["greedy", "maxprod", "entropy", "abs-sum"], ...] = Field(
        default=("greedy",),
        min_length=1,
        max_length=4,
        description="how traces choose, and sums over all paths beside them",
    )
    watch: tuple[Annotated[str, Field(max_length=500)], ...] = Field(
        default=(), max_length=64, description="parameters whose dominant path is kept whole at every step"
    )
    blocked: tuple[Annotated[str, Field(min_length=1, max_length=500)], ...] = Field(
        default=(), max_length=64, description="components through which no gradient passes; greedy traces alone"
    )
    top_routes: int = Field(default=20, ge=1, le=1000, description="routes kept per parameter, by mass")
    fold: Literal["auto", "always", "never"] = Field(
        default="auto",
        description='whether graphs are stored folded over time: "auto" folds those with more than fold_edges edges',
    )
    fold_edges: int = Field(default=FOLD_EDGES, ge=0, le=10**9, description="edges from which on auto folds")
    non_finite: Literal["continue", "stop"] = Field(default="continue", description="what to do when the loss is NaN")
    on_error: Literal["raise", "warn"] = Field(default="raise", description="what to do when a step cannot be traced")
    kernels: Literal["native", "traceable"] = Field(
        default="native",
        description='"traceable": untraced steps use the decomposed kernels too, so that the weights do not depend on '
        "which steps are traced",
    )
    threads: int | None = Field(default=None, ge=1, le=1024, description="threads of torch; its own choice if None")
    granularity: Literal["operator", "scalar"] = Field(
        default="operator",
        description='"scalar": traced steps have every scalar, weighted edge and pointer besides; for small models',
    )
    graph_budget: int = Field(
        default=GRAPH_BUDGET,
        ge=1,
        le=GRAPH_BUDGET,
        description="scalar vertices and edges that a traced batch may have at scalar granularity",
    )

    @field_validator("modes")
    @classmethod
    def _one_follows_paths(cls, modes: tuple[str, ...]) -> tuple[str, ...]:
        if not {"greedy", "maxprod"} & set(modes):
            raise ValueError(f"{modes[0]} goes beside greedy or maxprod; name one of them too")
        return modes

    def traces(self, step: int) -> bool:
        """Whether step number `step`, counted from 0, is to be traced.

        "log" means the first 16 steps, and then eight steps a doubling: most where most changes.
        """
        if self.every == "log":
            return step % (1 << max(step.bit_length() - 4, 0)) == 0
        return step % self.every == 0

    @property
    def path_modes(self) -> tuple[str, ...]:
        """The modes that follow paths, and so have shares, routes and win rates."""
        return tuple(mode for mode in self.modes if mode in ("greedy", "maxprod"))

    @property
    def batch_names(self) -> tuple[str, ...]:
        """The batches to trace, as the tracer names them."""
        return ("training", "probe") if self.batches == "both" else (self.batches,)

    @property
    def identity(self) -> str:
        """The spec as JSON by which it is known again: a new field does not change it as long as it is at its default, so that
        checkpoints and runs of earlier versions are still theirs."""
        plain = {n for n, f in type(self).model_fields.items() if n not in _FIRST and getattr(self, n) == f.default}
        return self.model_dump_json(exclude=plain)

    def record_parameters(self) -> dict[str, Scalar]:
        """Hyperparameters as JSON scalars, as stored with the run; what is blocked goes as `blocked`, joined by "+"."""
        return {**self.parameters.model_dump(), **({BLOCKED: "+".join(self.blocked)} if self.blocked else {})}


def spec_from_text(workload: str, parameters: Mapping[str, str], **options: Any) -> RunSpec:
    """A spec from text values, as given on the command line.

    Args:
        workload: name of the workload.
        parameters: hyperparameters, name → text.
        **options: other fields of `RunSpec`, with their right types.

    Raises:
        SpecError: a name is unknown or a value is wrong; the message lists the right ones.
    """
    found = find(workload)
    _check_names(found, parameters)
    try:
        typed = found.parameters.model_validate_strings(dict(parameters))
    except ValidationError as error:
        raise SpecError(_say(found, error.errors()[0])) from None
    return _make(found, typed, options)


def spec_from_json(text: str | bytes) -> RunSpec:
    """A spec from JSON: an object of `RunSpec`'s fields, `parameters` being an object of JSON scalars.

    Raises:
        SpecError: it is too long, no such object, or a name, type or value is wrong.
    """
    if len(text) > MAX_JSON:
        raise SpecError(f"The job spec has {len(text):,} characters; at most {MAX_JSON:,} are read.")
    try:
        raw = _Envelope.model_validate_json(text)
    except ValidationError as error:
        detail = error.errors()[0]
        raise SpecError(f"The job spec is no object of a run's fields: {_where(detail)}{detail['msg']}.") from None
    found = find(raw.workload)
    _check_names(found, raw.parameters)
    try:
        typed = found.parameters.model_validate(raw.parameters, strict=True)
    except ValidationError as error:
        raise SpecError(_say(found, error.errors()[0])) from None
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in (raw.model_extra or {}).items()}
    return _make(found, typed, options)


def new_run_id(workload: str, length: int = 4) -> str:
    """A new id: workload, second (UTC) and `length` hex digits (`"char-lstm-20261123-231501-7f3a"`)."""
    return f"{workload}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(length)[:length]}"


class _Envelope(BaseModel):
    """The outside of a JSON spec, before its workload is known."""

    model_config = ConfigDict(extra="allow", strict=True)

    workload: str = Field(max_length=100)
    parameters: dict[str, str | int | float | bool | None] = Field(default_factory=dict, max_length=100)


def _make(workload: Workload, parameters: WorkloadParameters, options: Mapping[str, Any]) -> RunSpec:
    try:
        spec = RunSpec(workload=workload.name, parameters=parameters, **options)
    except ValidationError as error:
        detail = error.errors()[0]
        if detail["type"] == "extra_forbidden":
            name = str(detail["loc"][0])
            raise SpecError(f"A run has no option {name!r}. {choices(name, RunSpec.model_fields, 'Options')}") from None
        raise SpecError(f"{_where(detail)}{detail['msg']}, got {_short(detail['input'])}.") from None
    check_spec(spec)
    return spec


def check_spec(spec: RunSpec) -> None:
    """Refuse what each field allows, but not together.

    Raises:
        SpecError: components are blocked in a mode that does not look at gradients, or a hyperparameter is called as what
            says so.
    """
    if not spec.blocked:
        return
    if spec.modes != ("greedy",):
        raise SpecError(
            f"With blocked components only the mode greedy is traced, not {', '.join(spec.modes)}: the others follow weights, "
            "which blocking leaves as they are."
        )
    if BLOCKED in type(spec.parameters).model_fields:
        raise SpecError(
            f"The workload {spec.workload} has a hyperparameter {BLOCKED!r}, under which a run says which components are "
            "blocked. Rename it to block components of this workload."
        )


def _check_names(workload: Workload, parameters: Mapping[str, object]) -> None:
    known = workload.parameters.model_fields
    for name in parameters:
        if name not in known:
            raise SpecError(f"{workload.name} has no parameter {_short(name)}. {choices(name, known, 'Parameters')}")


def _say(workload: Workload, detail: ErrorDetails) -> str:
    name = str(detail["loc"][0]) if detail["loc"] else "parameters"
    field = workload.parameters.model_fields.get(name)
    about = f" ({field.description}; default {field.default})" if field else ""
    return (
        f"{workload.name}: {name}={_short(detail['input'])} is refused: {detail['msg']}. "
        f"{name}{about}. All parameters: gradtrace workloads {workload.name}"
    )


def _where(detail: ErrorDetails) -> str:
    return f"{detail['loc'][0]}: " if detail["loc"] else ""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
