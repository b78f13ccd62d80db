"""The components that docs/workloads.md names are there: in the traced graph of each workload, with operators in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from gradtrace.service.workloads import WORKLOADS
from gradtrace.tracer import trace
from tests.problems.architectures import SMALL, problem

PAGE = Path(__file__).resolve().parents[2] / "docs" / "workloads.md"

PROMISED: dict[str, tuple[str, ...]] = {
    "lstm": ("carry", "write"),
    "gru": ("mixing",),
    "highway": ("carry", "transform"),
    "resnet": ("skip", "branch"),
    "seq2seq-attention": ("query", "keys", "score", "weights", "context"),
    "transformer": ("queries", "keys", "values", "feed_forward", "skip"),
    "stack-rnn": ("push", "pop", "read", "value"),
    "queue-rnn": ("push", "pop", "read", "value"),
    "ntm": ("addressing.content", "addressing.gate", "addressing.shift", "erase", "add", "read"),
}
"""Workload → how names on the page have to end."""


@dataclass(frozen=True)
class Wanted:
    """A component that the page names, in full or by how it begins or ends, and the setting it is said of, if any."""

    name: str
    setting: str | None = None

    def among(self, components: set[str]) -> bool:
        """Whether one of the components is meant."""
        if self.name.startswith("..."):
            return any(f".{c}".endswith("." + self.name[3:]) for c in components)
        if self.name.endswith("..."):
            return any(c.startswith(self.name[:-3] + ".") for c in components)
        return self.name in components


def wanted(cell: str) -> Iterator[Wanted]:
    """The names of one cell: `.pop` after `stack.push` is `stack.pop`; what follows a `name=value` is of that setting only."""
    before, setting = "", None
    for said in re.findall(r"`([^`]+)`", cell):
        if "=" in said:
            setting = said
            continue
        beside = said.startswith(".") and not said.startswith("...")
        before = before.rpartition(".")[0] + said if beside else said
        yield Wanted(before, setting)


@cache
def rows() -> dict[str, tuple[Wanted, ...]]:
    """Workload → the components that the page's first table names."""
    table = PAGE.read_text(encoding="utf-8").partition("| workload |")[2].partition("\n\n")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {name.strip("`"): tuple(wanted(components)) for name, _, components, _ in cells}


def holds(variant: str, setting: str) -> bool:
    """Whether a reduced workload has the setting, given or by default."""
    name, _, value = setting.partition("=")
    workload = WORKLOADS[variant.split()[0]]
    return str(getattr(workload.parameters(**SMALL[variant]), name)) == value


@pytest.mark.parametrize("variant", SMALL)
def test_every_named_component_is_in_the_graph(variant: str) -> None:
    model, loss = problem(variant, SMALL[variant]).make(0)
    graph = trace(loss, model).graph
    listed = {c.path for c in graph.components}
    crossed = {v.component for v in graph.vertices if v.component and v.kind == "operator"}
    filled = {c for c in listed if any(inner == c or inner.startswith(c + ".") for inner in crossed)}
    said = rows()[variant.split()[0]]
    meant = [w for w in said if w.setting is None or holds(variant, w.setting)]
    assert meant
    assert [w.name for w in meant if not w.among(listed)] == []
    assert [w.name for w in meant if not w.among(filled)] == [], "nothing in them"
    others = [w for w in said if w not in meant]
    assert [w.name for w in others if w.among(listed)] == [], "said of another setting"


def test_the_page_names_what_was_promised() -> None:
    assert set(rows()) == set(WORKLOADS) == {variant.split()[0] for variant in SMALL}
    missing = [
        (workload, end)
        for workload, ends in PROMISED.items()
        for end in ends
        if not any(f".{w.name}".endswith(f".{end}") for w in rows()[workload])
    ]
    assert missing == []
