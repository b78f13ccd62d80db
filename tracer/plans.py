"""The plans of the structures that a tracer meets: found again where a recording repeats one of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from gradtrace.tracer.build_plan import build_plan
from gradtrace.tracer.components import Recorded
from gradtrace.tracer.errors import LossError, TraceError, UntraceableOperatorError
from gradtrace.tracer.plan import Options, Plan
from gradtrace.tracer.plan_key import Key, plan_key
from gradtrace.tracer.walk import Skim, skim, walk


class Plans:
    """The plans of the graph structures met so far (a few: the last batch of an epoch is often smaller)."""

    def __init__(self, keep: int = 8) -> None:
        # Keys are long: comparing one with the last costs less than hashing it.
        self._plans: list[tuple[Key, Plan]] = []
        self._keep = keep
        self.built = 0

    def get(self, key: Key, build: Callable[[], Plan]) -> Plan:
        """The plan for `key`, built if it is new."""
        at = next((at for at, (known, _) in enumerate(self._plans) if known == key), None)
        if at is None:
            plan = build()
            self.built += 1
        else:
            plan = self._plans.pop(at)[1]
        self._plans.insert(0, (key, plan))
        del self._plans[self._keep :]
        return plan


def check_model(model: nn.Module | None) -> nn.Module | None:
    """The module to trace (of a compiled one, the module that was compiled); refuses what is none."""
    if model is None:
        return None
    if not isinstance(model, nn.Module):
        raise TraceError(
            f"The model is a {type(model).__name__}; pass the torch.nn.Module whose parameters are traced, or None."
        )
    compiled = getattr(model, "_orig_mod", None)
    return compiled if isinstance(compiled, nn.Module) else model


def find_plan(
    loss: torch.Tensor, marks: Recorded, model: nn.Module | None, plans: Plans, options: Options
) -> tuple[Plan, Skim]:
    """The plan of a recorded loss, and its graph as it is found now."""
    skimmed = skim(loss)
    key = (plan_key(skimmed, marks), options, id(model))
    return plans.get(key, lambda: build_plan(walk(skimmed), marks, model, options)), skimmed


def explain(error: RuntimeError) -> Exception:
    """A typed error where autograd's graph is gone or a parameter is sparse; else the error itself."""
    text = str(error)
    if "second time" in text or "already been freed" in text or "after they have already been freed" in text:
        return LossError(
            "The graph of this loss was freed by an earlier backward (or trace). Compute the loss again, or keep the graph "
            "with retain_graph=True."
        )
    if "doesn't have storage" in text:
        return UntraceableOperatorError(
            "A parameter is a sparse tensor; traces are defined for dense ones. Use .to_dense() and make that the parameter."
        )
    return error
