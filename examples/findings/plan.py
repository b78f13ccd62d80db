"""What a finding trains: arms (settings that differ), each with several seeds, and what is asked of each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from gradtrace.service.spec import RunSpec, spec_from_text

BATCH = "probe"
"""Every trace here is of the probe batch: held-out examples, the same at every step and in every arm of a seed."""


@dataclass(frozen=True, slots=True)
class Arm:
    """Runs that differ by their seed alone.

    Attributes:
        name: under which results and text speak of it.
        settings: hyperparameters of the workload that differ from its defaults.
        blocked: components through which no gradient passes.
        modes: how traces choose; blocked arms have greedy traces alone.
        more: seeds beside those of the plan.
    """

    name: str
    settings: Mapping[str, object] = field(default_factory=dict)
    blocked: tuple[str, ...] = ()
    modes: tuple[str, ...] = ("greedy",)
    more: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """All arms of a finding.

    Attributes:
        workload: what is trained.
        steps: optimizer steps of a run. The last one should be traced: say a multiple of `every`, and one.
        every: every how many steps a run is traced.
        components: of which traces are kept in the results.
        arms: the arms.
        seeds: the seeds of each arm.
    """

    workload: str
    steps: int
    every: int
    components: tuple[str, ...]
    arms: tuple[Arm, ...]
    seeds: Sequence[int]

    def reduced(self) -> Plan:
        """The same arms, hardly trained: shows that everything works, and finds nothing."""
        arms = tuple(replace(arm, more=()) for arm in self.arms)
        return replace(self, steps=9, every=2, seeds=(0, 1), arms=arms)

    def runs(self) -> list[tuple[Arm, int]]:
        """(arm, seed) of every run, seed by seed, so that an interrupted plan has whole seeds."""
        return [(arm, seed) for seed in self.seeds for arm in self.arms] + [(a, s) for a in self.arms for s in a.more]

    def specs(self, experiment: str) -> list[tuple[str, RunSpec]]:
        """(name of the arm, spec) of every run."""
        return [(arm.name, self._spec(arm, seed, experiment)) for arm, seed in self.runs()]

    def _spec(self, arm: Arm, seed: int, experiment: str) -> RunSpec:
        given = {"epochs": 10_000, **arm.settings, "seed": seed, "steps": self.steps}
        return spec_from_text(
            self.workload,
            {name: str(value) for name, value in given.items()},
            experiment=experiment,
            every=self.every,
            batches=BATCH,
            modes=arm.modes,
            blocked=arm.blocked,
            kernels="traceable",  # in all arms, so that blocking is the only thing that tells two of them apart
            threads=1,
        )
