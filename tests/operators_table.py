"""The table of operators, docs/operators.md: every row is a run against the oracle.

Regenerate it (some ten minutes) with `python -m tests.operators_table`, or some of its rows with
`python -m tests.operators_table kron to`. Nothing is written if the oracle finds anything wrong.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gradtrace.tracer import trace
from gradtrace.tracer.errors import UntraceableOperatorError
from gradtrace.tracer.rules.report import COSTS, treatments
from tests.oracle.judge import Judge
from tests.oracle.oracle import consult
from tests.problems.base import Problem
from tests.problems.operators import Sample, database, problems_of
from tests.tracer.judging import MODES

TABLE = Path(__file__).parents[1] / "docs" / "operators.md"
HEAD = """# Operators

Every differentiable operator of PyTorch's own operator database (`torch.testing`), on its own float64 samples, run in both
modes against the oracle; where all of those are too large, empty or without finite gradients, on smaller ones
(`tests/problems/operator_samples.py`). This file is generated: `python -m tests.operators_table`. A test holds a tenth of
its rows against a new run, and `make test-full` all of them.

- *movement*: only renames scalars; costs nothing.
- *closed rule*: exact without probing; the last column says what is looked at.
- *probed*: exact by one backward call for each output scalar, up to `probe_budget` (4,096) of them, then refused.
- *refused*: complex and sparse numbers, fused attention that was called by its own name, and unpooling that puts several
  scalars into one place; each with an error that says the way out.
- *not judged*: no sample is small enough, has finite gradients, and is recorded by torch on this machine. There is none now.

An operator that PyTorch composes of several is as dear as the dearest of them. The autograd nodes stand in forward order.

A `torch.autograd.Function` of your own is probed, unless you say how its scalars depend on each other:
`gradtrace.tracer.declare(Swish, "elementwise")`, or `"rows"` where they mix along the last dimension only. The declaration is
checked against the function's backward.
"""


@dataclass
class Row:
    """One operator's line of the table, and what the oracle found wrong (nothing, one hopes)."""

    name: str
    how: str
    cost: str = ""
    nodes: tuple[str, ...] = ()
    findings: list[str] = field(default_factory=list)

    def line(self) -> str:
        """As Markdown."""
        nodes = ", ".join(self.nodes) if len(self.nodes) <= 6 else f"{', '.join(self.nodes[:6])}, … ({len(self.nodes)})"
        return f"| {self.name} | {self.how} | {self.cost} | {nodes} |"


def run(name: str) -> Row:
    """Judge all samples of one operator."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = [row for p in problems_of(name) if (row := _judged(name, p)) is not None]
    if not rows:
        return Row(name, "not judged")
    told = [r for r in rows if r.how != "refused"]
    if not told:
        return Row(name, "refused", nodes=rows[0].nodes)
    order = ["movement", "closed rule", "probed"]
    how = max((r.how for r in told), key=order.index)
    cost = max((r.cost for r in told), key=["", *COSTS].index)
    nodes = tuple(dict.fromkeys(n for r in told for n in r.nodes))
    if len(told) < len(rows):
        how += "; some refused"
    return Row(name, how, cost, nodes, [f for r in told for f in r.findings])


def _judged(name: str, problem: Problem) -> Row | None:
    model, closure = problem.make(0)
    assert isinstance(model, Sample)
    try:
        found = trace(closure, model, mode=MODES)
    except UntraceableOperatorError as error:
        return Row(name, "refused", nodes=(error.op,))
    oracle = consult(problem.make)
    if not np.isfinite(oracle.graph.gradient).all():
        return None
    findings = list(found.notes)
    for mode in MODES:
        findings += Judge(found, oracle, mode, None, problem.tolerance).run()
    # The loss multiplies, sums and adds each output.
    own = treatments(found._plan)[: -3 * len(model.outputs())]
    how = "probed" if any(t.probed for t in own) else "closed rule" if own else "movement"
    cost = max((t.cost for t in own), key=COSTS.index, default="")
    return Row(name, how, cost, tuple(dict.fromkeys(t.op for t in own)), [f"{problem.name} {f}" for f in findings])


def rows() -> dict[str, str]:
    """Lines of the table by operator, as they stand in the file."""
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    return {line.split(" | ")[0].removeprefix("| "): line for line in lines[1:]}


def document(lines: dict[str, str]) -> str:
    """The whole file, of lines by operator."""
    counts = Counter(line.split(" | ")[1] for line in lines.values()).most_common()
    total = ", ".join(f"{n} {how}" for how, n in counts)
    body = "\n".join(lines[name] for name in sorted(lines))
    columns = "| operator | traced by | looks at | operators recorded |\n|---|---|---|---|"
    return f"{HEAD}\n{columns}\n{body}\n\n{len(lines)} operators: {total}.\n"


def main(names: list[str]) -> int:
    """Write the table anew: all rows, or those of some operators."""
    known = list(database())
    if unknown := [name for name in names if name not in database()]:
        print(
            f"No such operator in PyTorch's database: {', '.join(unknown)}. Names are those of {TABLE}.",
            file=sys.stderr,
        )
        return 2
    lines = {name: line for name, line in rows().items() if name in database()} if names else {}
    wrong = 0
    for name in names or known:
        row = run(name)
        lines[name] = row.line()
        print(row.line(), flush=True)
        for finding in row.findings[:3]:
            print(finding, file=sys.stderr)
        wrong += bool(row.findings)
    if not wrong:
        TABLE.write_text(document(lines), encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
