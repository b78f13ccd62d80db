"""A workload for fault tests, on the allow-list of their workers: a small net on random data, poisoned if asked to be."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gradtrace.service.workloads.declared import Workload
from gradtrace.service.workloads.parameters import WorkloadParameters


class FaultNetParameters(WorkloadParameters):
    """Parameters of `fault-net`."""

    steps: int | None = Field(default=24, ge=1, description="optimizer steps")
    epochs: int = Field(default=100, ge=1, description="passes over the data")
    poison: Literal["none", "raise", "hang", "eat", "exit", "leave", "print", "stubborn"] = Field(
        default="none", description="what goes wrong"
    )
    at: int = Field(default=0, ge=0, description="the step at which it does")
    pause: float = Field(default=0.0, ge=0, le=10, description="seconds that each step takes longer")


WORKLOADS = [Workload("fault-net", "a small net that may be poisoned", FaultNetParameters, "tests.faults.building")]
