"""Traces a problem and holds the trace against the oracle."""

from __future__ import annotations

from typing import Any

from torch import nn

from gradtrace.tracer import trace
from tests.oracle.components import ComponentMap, component_map
from tests.oracle.judge import Judge
from tests.oracle.oracle import Make, Oracle

MODES = ("greedy", "maxprod")


def judge(
    make: Make, oracle: Oracle, modes: tuple[str, ...], tolerance: float = 1e-9, regions: bool = False
) -> list[str]:
    """Trace afresh and collect every finding.

    Args:
        regions: take the components of operators from the trace, where regions named by hand take part; otherwise
            they are the oracle's own.
    """
    model, closure = make(0)
    found = trace(closure, model, mode=modes if len(modes) > 1 else modes[0])
    findings: list[str] = list(found.notes)
    for mode in modes:
        components = told_components(found, oracle, mode) if regions else None
        findings += Judge(found, oracle, mode, components, tolerance).run()
    return findings


def told_components(found: Any, oracle: Oracle, mode: str) -> ComponentMap:
    """Components of operators as the trace tells them; the rest, and recurrent modules, as the oracle knows it."""
    vertices = [v for v in found.batch_trace(mode).graph.vertices if v.kind in ("operator", "loss")]
    operators = dict(oracle.operator_components)
    modules = dict(oracle.drawing.model.named_modules())
    for node, vertex in zip(oracle.graph.operators, vertices, strict=True):
        if not isinstance(modules.get(operators[node.position] or ""), nn.RNNBase | nn.RNNCellBase):
            operators[node.position] = vertex.component
    return component_map(oracle.graph, oracle.drawing.model, operators)
