"""Every question over steps that the tracer made of a training LSTM, against plain Python on its file of JSON lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from gradtrace.queries import Library, registry
from gradtrace.tracer import Tracer
from gradtrace.tracer.fold import Folder
from gradtrace.tracer.sinks.jsonl import JsonlSink, read_jsonl
from gradtrace.tracer.steptrace import RunRecord
from tests.queries.checks import COMPUTED, askings, assert_rows, assert_typed
from tests.queries.conftest import connected, emptied, store
from tests.queries.reference_lists import ANSWERS
from tests.queries.worlds import Run

if TYPE_CHECKING:
    from gradtrace.service.local import ServerInfo

MODES = ("greedy", "maxprod")
NOTHING_TO_SAY = (
    *("non-finite-steps", "unfinished-runs", "dominance-shifts"),
    *("scalar-graph-at-step", "scalar-path"),  # tests/service/test_scalar_runs.py walks real scalars
)
"""Questions about what did not happen to this run."""


class Model(nn.Module):
    """Seven characters in, three classes out; one character is never shown."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.lstm = nn.LSTM(4, 5, num_layers=2, batch_first=True)
        self.head = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.lstm(self.embed(x))[0][:, -1]
        out: torch.Tensor = self.head(hidden)
        return out


def trained(file: Path) -> Run:
    """Two epochs of three batches, the last one smaller, all traced, on the training and a probe batch; read back from a file."""
    torch.manual_seed(0)
    model, loss_of = Model(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    x, y = torch.randint(0, 6, (8, 5)), torch.randint(0, 3, (8,))
    sink, record = JsonlSink(file), RunRecord("real", "lstm", "tests", {"lr": 0.5}, MODES)
    sink.open_run(record)
    tracer = Tracer(
        model,
        sink=sink,
        run="real",
        every=1,
        mode=MODES,
        batches=("training", "probe"),
        probe=lambda: loss_of(model(x[:2]), y[:2]),
    )
    for epoch in range(2):
        for part in (slice(0, 3), slice(3, 6), slice(6, 8)):
            optimizer.zero_grad()
            with tracer.step(epoch=epoch) as step:
                step.backward(loss_of(model(x[part]), y[part]))
            optimizer.step()
    sink.close_run("real", "FINISHED")
    sink.close()
    recording = read_jsonl(file)
    return Run(recording.runs["real"], tuple(recording.of("real")))


@pytest.fixture(scope="module")
def asked(
    neo4j_server: ServerInfo, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Library, dict[str, Run]]]:
    """The library over a store that holds this run, and the same with its graphs folded over time."""
    real, folder = trained(tmp_path_factory.mktemp("traced") / "steps.jsonl"), Folder("always")
    folded = tuple(folder.step(replace(step, run="folded")) for step in real.steps)
    runs = {"real": real, "folded": Run(replace(real.record, id="folded"), folded)}
    with connected(neo4j_server) as driver:
        emptied(driver)
        store(neo4j_server, runs)
        yield Library(driver), runs


def test_the_runs_are_as_meant(asked: tuple[Library, dict[str, Run]]) -> None:
    folded = [t.graph for s in asked[1]["folded"].steps for t in s.traces]
    assert all(graph.folded for graph in folded) and len({graph.fingerprint for graph in folded}) == 1
    run = asked[1]["real"]
    assert [s.step for s in run.steps] == list(range(6)) and [s.epoch for s in run.steps] == [0, 0, 0, 1, 1, 1]
    assert all(len(s.traces) == 4 for s in run.steps)
    assert len({t.graph.fingerprint for s in run.steps for t in s.traces if t.batch == "training"}) == 2
    assert {"lstm.l0.carry", "lstm.l1.cell", "head"} <= {c.component for c in run.steps[0].traces[0].components}


@pytest.mark.parametrize("name", [n for n in registry() if n not in COMPUTED])
def test_answer_equals_plain_python(asked: tuple[Library, dict[str, Run]], name: str) -> None:
    library, runs = asked
    rows = 0
    for _, question, given in askings(runs):
        if question == name:
            answer = library.run(name, **given)
            assert_rows(answer.rows, ANSWERS[name](runs, **answer.parameters), list(answer.columns))
            assert_typed(name, answer.rows)
            rows += len(answer.rows)
    assert rows or name in NOTHING_TO_SAY


def test_the_default_question_names_the_parts_of_the_lstm(asked: tuple[Library, dict[str, Run]]) -> None:
    answer = asked[0].run("components-by-epoch", limit=100)
    assert {row["epoch"] for row in answer} == {0, 1}
    rows = {row["component"]: row for row in answer if row["epoch"] == 0}
    assert rows["head"]["share"] == pytest.approx(1.0) and rows["head"]["win_rate"] is None
    assert 0 < rows["lstm.l1"]["foreign_share"] <= rows["lstm.l1"]["share"] <= 1 + 1e-9
    assert "lstm.l0.carry" in rows
