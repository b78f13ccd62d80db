"""`trace`: one loss, recorded or to be recorded, traced in one backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch
from torch import nn

from gradtrace.tracer.capture import Captured, capture
from gradtrace.tracer.components import Recorded, recorded, watch_modules
from gradtrace.tracer.errors import LossError, TraceError, UntraceableOperatorError
from gradtrace.tracer.plan import Key, Options, Plan, build_plan, plan_key
from gradtrace.tracer.recording import traceable_kernels
from gradtrace.tracer.result import Trace
from gradtrace.tracer.solve import solve
from gradtrace.tracer.steptrace import MODES
from gradtrace.tracer.walk import check_loss, skim, walk

Modes = str | Sequence[str]


class Plans:
    """The plans of the graph structures met so far (a few: the last batch of an epoch is often smaller)."""

    def __init__(self, keep: int = 8) -> None:
        self._plans: dict[Key, Plan] = {}
        self._keep = keep
        self.built = 0

    def get(self, key: Key, build: Callable[[], Plan]) -> Plan:
        """The plan for `key`, built if it is new."""
        plan = self._plans.pop(key, None)
        if plan is None:
            plan = build()
            self.built += 1
        self._plans[key] = plan
        while len(self._plans) > self._keep:
            del self._plans[next(iter(self._plans))]
        return plan


def check_modes(mode: Modes) -> tuple[str, ...]:
    """Mode names as a tuple without repeats; refuses unknown ones."""
    modes = (mode,) if isinstance(mode, str) else tuple(dict.fromkeys(mode))
    unknown = [m for m in modes if m not in MODES]
    if unknown or not modes:
        given = f"{unknown[0]!r} is no mode" if unknown else "No mode was given"
        raise TraceError(f"{given}; there are: {', '.join(MODES)}.")
    return modes


def trace(
    loss: torch.Tensor | Callable[[], torch.Tensor],
    model: nn.Module | None = None,
    *,
    mode: Modes = "greedy",
    probe_budget: int = 4096,
    scalar_budget: int = 2**31 - 2,
    top_routes: int = 20,
    batch_size: int | None = None,
) -> Trace:
    """Run one backward and trace every parameter scalar to the loss (DuSell, Algorithm 1; `docs/semantics.md`).

    Args:
        loss: a function that computes the scalar loss (recorded here, with kernels that show their operators), or a
            scalar that is recorded already.
        model: whose parameters are traced, and whose modules name the components; without it all leaves are traced.
        mode: `"greedy"`, `"maxprod"`, or several; one backward serves all.
        probe_budget: output scalars that may be probed one by one for an operator without a closed rule.
        scalar_budget: scalars that the step may have in all.
        top_routes: routes kept, overall and per parameter.
        batch_size: examples in the batch, where known; tells which example a path goes through.

    Returns:
        The `Trace`. Leaves have in `.grad` what `loss.backward()` would have put there, bit for bit.

    Raises:
        LossError: not a scalar, no graph, or the graph was freed by an earlier backward.
        UntraceableOperatorError: an operator has no closed rule and is beyond the probing budget.
        OpaqueKernelError: the loss was recorded with fused kernels.
        BudgetError: more scalars than the budget.

    >>> t = trace(lambda: loss_fn(model(x), y), model)
    >>> t.path("head.weight", (0, 3)).hops
    """
    modes = check_modes(mode)
    model = check_model(model)
    options = Options("maxprod" in modes, probe_budget, scalar_budget)
    with ExitStack() as kernels:
        if isinstance(loss, torch.Tensor):
            value, marks = loss, recorded()
        elif callable(loss):
            # In force for the backward too: checkpointed parts run again there, and must record the same operators.
            kernels.enter_context(traceable_kernels())
            value, marks = record(loss, model)
        else:
            value, marks = loss, recorded()
        check_loss(value)
        captured = backward(value, marks, model, options, Plans(), lambda: value.backward())
    return finish(captured, value, modes, top_routes, 1.0, batch_size)


def record(function: Callable[[], torch.Tensor], model: nn.Module | None) -> tuple[torch.Tensor, Recorded]:
    """Run `function` with traceable kernels, watching the modules of `model`."""
    with traceable_kernels(), watch_modules(model), torch.enable_grad():
        value = function()
        return value, recorded()


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


def backward(
    loss: torch.Tensor,
    marks: Recorded,
    model: nn.Module | None,
    options: Options,
    plans: Plans,
    run: Callable[[], object] | None,
) -> Captured:
    """Plan (or find the plan of) a recorded loss, run its backward by `run`, and keep what tracing needs.

    Without `run` the gradients of the leaves are worked out aside: `.grad` and accumulation hooks stay untouched.
    """
    skimmed = skim(loss)
    try:
        key = (plan_key(skimmed, marks), options, id(model))
        plan = plans.get(key, lambda: build_plan(walk(skimmed), marks, model, options))
        captured = capture(plan, skimmed)
    except RuntimeError as error:
        raise explain(error) from error
    try:
        if run is None:
            leaves = [skimmed.functions[at].variable for at in plan.order[: plan.leaf_nodes]]
            for index, gradient in enumerate(torch.autograd.grad(loss, leaves, allow_unused=True)):
                captured.arrived[index] = [(gradient,)]
        else:
            run()
    except RuntimeError as error:
        for handle in captured.handles:
            handle.remove()
        raise explain(error) from error
    captured.finish()
    return captured


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


def finish(
    captured: Captured,
    loss: torch.Tensor,
    modes: Sequence[str],
    top_routes: int,
    scale: float,
    batch_size: int | None,
    batch: str = "training",
) -> Trace:
    """Trace a captured step in every mode."""
    solved = {mode: solve(captured, mode) for mode in modes}
    value = float(loss.detach()) / scale
    return Trace(captured.plan, solved, value, top_routes, scale, batch_size, batch)
