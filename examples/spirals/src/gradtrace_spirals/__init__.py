"""Two spirals: a workload for gradtrace. Nothing here imports torch, so that runs can be checked before they are queued."""

from pydantic import Field

from gradtrace.service.workloads import Workload, WorkloadParameters


class SpiralsParameters(WorkloadParameters):
    """Hyperparameters of `spirals`; seed, epochs, steps, batch_size and lr come with every workload."""

    depth: int = Field(default=4, ge=1, le=1000, description="residual blocks")
    width: int = Field(default=16, ge=2, le=1024, description="width of every block")
    turns: float = Field(default=1.5, gt=0, le=10, description="turns of each spiral")
    points: int = Field(default=1024, ge=64, le=1_000_000, description="points of both spirals together")


WORKLOAD = Workload(
    name="spirals",
    description="residual net that tells two spirals apart; every block's way through and past it are components",
    parameters=SpiralsParameters,
    module="gradtrace_spirals.training",
)
