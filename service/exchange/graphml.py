"""The operator graph of one step as GraphML, which NetworkX, Gephi, yEd and Cytoscape read."""

from __future__ import annotations

import io
import re
from pathlib import Path
from xml.etree import ElementTree

import networkx as nx

from gradtrace.tracer.adapters.networkx import to_networkx
from gradtrace.tracer.errors import ExchangeError
from gradtrace.tracer.steptrace import BatchTrace, StepTrace

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_FLOATS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
"""How Java's and Python's readers both spell what is not finite."""


def trace_of(step: StepTrace, mode: str | None = None, batch: str | None = None) -> BatchTrace:
    """The trace of a step that has this mode and batch; where they are left out, the first that there is.

    Raises:
        ExchangeError: there is none.
    """
    for trace in step.traces:
        if mode in (None, trace.mode) and batch in (None, trace.batch):
            return trace
    known = ", ".join(f"{t.mode} on the {t.batch} batch" for t in step.traces)
    asked = " on the ".join([mode or "any mode", f"{batch or 'either'} batch"])
    raise ExchangeError(f"Step {step.step} of run {step.run!r} has no trace of {asked}; it has {known}.")


def write_graphml(step: StepTrace, trace: BatchTrace, path: Path) -> None:
    """Write the operator graph of a trace with its numbers, as `to_networkx` names them; edges have `slot` besides.

    Args:
        step: the step that the trace is of; its run, number and epoch go with the graph.
        trace: a trace of it.
        path: is written.
    """
    graph = to_networkx(trace)
    graph.graph |= {"run": step.run, "step": step.step, "epoch": step.epoch}
    for _, _, slot, data in graph.edges(keys=True, data=True):
        data["slot"] = slot
    for data in (graph.graph, *(d for _, d in graph.nodes(data=True))):
        data.update({k: _NOT_IN_XML.sub("\ufffd", v) for k, v in data.items() if isinstance(v, str)})
    text = io.BytesIO()
    nx.write_graphml_xml(graph, text, edge_id_from_attribute="idx")
    path.write_bytes(_spelt(text.getvalue()))


def _spelt(text: bytes) -> bytes:
    """GraphML with numbers that are not finite spelt so that Java reads them too."""
    space = "{http://graphml.graphdrawing.org/xmlns}"
    ElementTree.register_namespace("", space[1:-1])
    ElementTree.register_namespace("xsi", "http://www.w3.org/2001/XMLSchema-instance")
    root = ElementTree.fromstring(text)
    floats = {key.get("id") for key in root.iter(f"{space}key") if key.get("attr.type") == "double"}
    for data in root.iter(f"{space}data"):
        if data.get("key") in floats:
            data.text = _FLOATS.get(data.text or "", data.text)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))
