"""`trace`: one loss, recorded or to be recorded, traced in one backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch
from torch import nn

from gradtrace.tracer.blocking import blocked_blocks, blocking, check_blocked_modes, remove
from gradtrace.tracer.capture import Captured, capture
from gradtrace.tracer.components import Recorded, recorded, watch_modules
from gradtrace.tracer.errors import BudgetError, TraceError
from gradtrace.tracer.plan import Options
from gradtrace.tracer.plans import Plans, check_model, explain, find_plan
from gradtrace.tracer.recording import traceable_kernels
from gradtrace.tracer.result import Trace
from gradtrace.tracer.scalargraph import GRAPH_BUDGET
from gradtrace.tracer.scalars import check_granularity, check_size, scalar_edges, scalar_graph
from gradtrace.tracer.solve import solve
from gradtrace.tracer.spread import Spreads
from gradtrace.tracer.spreadtrace import SPREAD_MODES
from gradtrace.tracer.steptrace import MODES
from gradtrace.tracer.walk import check_loss

Modes = str | Sequence[str]


def check_modes(mode: Modes) -> tuple[str, ...]:
    """Mode names as a tuple without repeats; refuses unknown ones."""
    modes = (mode,) if isinstance(mode, str) else tuple(dict.fromkeys(mode))
    known = (*MODES, *SPREAD_MODES)
    unknown = [m for m in modes if m not in known]
    if unknown or not modes:
        given = f"{unknown[0]!r} is no mode" if unknown else "No mode was given"
        raise TraceError(f"{given}; there are: {', '.join(known)}.")
    return modes


def needs_weights(modes: Sequence[str]) -> bool:
    """Whether partials are needed where greedy makes do with gradients."""
    return any(mode != "greedy" for mode in modes)


def trace(
    loss: torch.Tensor | Callable[[], torch.Tensor],
    model: nn.Module | None = None,
    *,
    mode: Modes = "greedy",
    probe_budget: int = 4096,
    scalar_budget: int = 2**31 - 2,
    top_routes: int = 20,
    batch_size: int | None = None,
    blocked: Sequence[str] = (),
    granularity: str = "operator",
    graph_budget: int = GRAPH_BUDGET,
) -> Trace:
    """Run one backward and trace every parameter scalar to the loss (DuSell, Algorithm 1; `docs/semantics.md`).

    Args:
        loss: a function that computes the scalar loss (recorded here, with kernels that show their operators), or a
            scalar that is recorded already.
        model: whose parameters are traced, and whose modules name the components; without it all leaves are traced.
        mode: `"greedy"`, `"maxprod"` (which follow paths), `"entropy"`, `"abs-sum"` (which sum over all paths), or several; one
            backward serves all.
        probe_budget: output scalars that may be probed one by one for an operator without a closed rule.
        scalar_budget: scalars that the step may have in all.
        top_routes: routes kept, overall and per parameter.
        batch_size: examples in the batch, where known; tells which example a path goes through.
        blocked: components through which no gradient is to pass (see `blocked`); in greedy mode alone.
        granularity: `"scalar"` also spells out the scalar graph (`Trace.scalar_graph`), for small models.
        graph_budget: vertices and edges that the scalar graph may have.

    Returns:
        The `Trace`. Leaves have in `.grad` what `loss.backward()` would have put there, bit for bit.

    Raises:
        LossError: not a scalar, no graph, or the graph was freed by an earlier backward.
        UntraceableOperatorError: an operator has no closed rule and is beyond the probing budget.
        OpaqueKernelError: the loss was recorded with fused kernels.
        BudgetError: more scalars, or a larger scalar graph, than the budget.
        ComponentError: no operator belongs to a component that is to be blocked.

    >>> t = trace(lambda: loss_fn(model(x), y), model)
    >>> t.path("head.weight", (0, 3)).hops
    """
    modes = check_modes(mode)
    model = check_model(model)
    check_blocked_modes(blocked, modes)
    check_granularity(granularity)
    spelt_out = graph_budget if granularity == "scalar" else None
    options = Options(needs_weights(modes), probe_budget, scalar_budget)
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
        plans = Plans()
        with blocking(value, marks, model, plans, options, blocked):
            captured = backward(value, marks, model, options, plans, lambda: value.backward(), blocked, spelt_out)
    return finish(captured, value, modes, top_routes, 1.0, batch_size)


def record(function: Callable[[], torch.Tensor], model: nn.Module | None) -> tuple[torch.Tensor, Recorded]:
    """Run `function` with traceable kernels, watching the modules of `model`."""
    with traceable_kernels(), watch_modules(model), torch.enable_grad():
        value = function()
        return value, recorded()


def backward(
    loss: torch.Tensor,
    marks: Recorded,
    model: nn.Module | None,
    options: Options,
    plans: Plans,
    run: Callable[[], object] | None,
    blocked: Sequence[str] = (),
    graph_budget: int | None = None,
) -> Captured:
    """Plan (or find the plan of) a recorded loss, run its backward by `run`, and keep what tracing needs.

    Without `run` the gradients of the leaves are worked out aside: `.grad` and accumulation hooks stay untouched. Of the
    components `blocked`, which `blocking` has hooked, no scalar counts as a candidate.
    With a `graph_budget` the scalar graph is spelt out as well.
    """
    try:
        plan, skimmed = find_plan(loss, marks, model, plans, options)
        leaves = [skimmed.variables[at] for at in plan.order[: plan.leaf_nodes]]
        if graph_budget is not None:
            check_size(plan, graph_budget)
        # Path sums over all weights are asked for later, when the user may have changed `.grad`.
        empty = run is not None and not options.weights and plan.in_grad is not False and _nothing_in_grad(leaves)
        hooked = run is not None and not (empty and plan.in_grad)
        captured = capture(plan, skimmed, hooked, blocked_blocks(plan, blocked) if blocked else {})
        if graph_budget is not None:
            try:
                captured.scalars = scalar_edges(plan, skimmed, captured, graph_budget)
            except BudgetError:
                remove(captured.handles)
                raise
    except RuntimeError as error:
        raise explain(error) from error
    try:
        if run is None:
            captured.arrived = [[(g,)] for g in torch.autograd.grad(loss, leaves, allow_unused=True)]
        else:
            run()
    except RuntimeError as error:
        for handle in captured.handles:
            handle.remove()
        raise explain(error) from error
    if empty and plan.in_grad:
        captured.by_grad = leaves
    elif empty:
        captured.look_at_grad(leaves)
    captured.finish()
    return captured


def _nothing_in_grad(leaves: list[torch.Tensor]) -> bool:
    """Whether what is in `.grad` after the backward will be what arrived there: not where processes share gradients."""
    shared = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not shared and all(leaf.grad is None and not leaf._post_accumulate_grad_hooks for leaf in leaves)


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
    spreads = None
    if any(mode in SPREAD_MODES for mode in modes):  # before maxprod, which changes the records of the step
        spreads = Spreads(captured, "entropy" in modes, 1.0 / scale)
    solved = {mode: solve(captured, mode, batch_size) for mode in modes if mode in MODES}
    value = float(loss.detach()) / scale
    # At once: what arrived at a leaf may be its `.grad`, which the user may change.
    scalars = scalar_graph(captured.scalars, captured, modes, scale) if captured.scalars is not None else None
    return Trace(captured, modes, solved, spreads, value, top_routes, scale, batch_size, batch, scalars)
