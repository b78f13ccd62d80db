"""Every question against its answer in plain Python, over a store full of odd runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest

from gradtrace.queries import Library, registry
from gradtrace.tracer.errors import QueryError
from gradtrace.tracer.steptrace import StepTrace
from tests.queries.reference import ANSWERS
from tests.queries.worlds import UNICODE, Run, all_runs
from tests.synthetic import check, step_trace

COMPUTED = ("store-size", "runs", "run-ids")  # compared in tests of their own


def same(found: Any, expected: Any) -> bool:
    """Equal, floats up to rounding; NaN equals NaN."""
    if isinstance(expected, float) and isinstance(found, float):
        return (math.isnan(found) and math.isnan(expected)) or math.isclose(
            found, expected, rel_tol=1e-9, abs_tol=1e-12
        )
    return type(found) is type(expected) and bool(found == expected)


def assert_rows(found: list[dict[str, Any]], expected: list[dict[str, Any]], columns: list[str]) -> None:
    assert len(found) == len(expected)
    for number, (row, wanted) in enumerate(zip(found, expected, strict=True)):
        assert set(wanted) <= set(columns), "the reference answers another question"
        for name, value in wanted.items():
            assert same(row[name], value), f"row {number}, {name}: {row[name]!r} is not {value!r}"


def assert_typed(name: str, rows: list[dict[str, Any]]) -> None:
    columns = registry()[name].columns
    for row in rows:
        assert list(row) == list(columns)
        for column, value in row.items():
            assert columns[column].accepts(value), f"{name}.{column} is {value!r}, not {columns[column]}"


def some(step: StepTrace, what: str) -> Any:
    first = step.traces[0]
    return {
        "component": [c.component for c in first.components][1::3],
        "parameter": [p.parameter for p in first.parameters][::2],
    }[what]


def askings() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(run, question, parameters) for every run, mode, batch, and a choice of the rest."""
    for run in all_runs().values():
        heads = sorted({(t.mode, t.batch) for s in run.steps for t in s.traces}) or [("greedy", "training")]
        for name, question in registry().items():
            if name in COMPUTED:
                continue
            choices: list[dict[str, Any]] = [{}]
            for parameter in question.parameters.values():
                choices = [c | more for c in choices for more in _choices(run, heads, parameter.name, question.name)]
            for choice in {repr(c): c for c in choices}.values():
                head = choice.pop("head", None)
                if head is not None:
                    choice |= {k: v for k, v in zip(("mode", "batch"), head, strict=True) if k in question.parameters}
                yield run.record.id, name, choice


def _choices(run: Run, heads: list[tuple[str, str]], parameter: str, question: str) -> list[dict[str, Any]]:
    first = run.steps[0] if run.steps else step_trace("x", 0)
    epochs = sorted({s.epoch for s in run.steps})
    match parameter:
        case "run":
            return [{"run": run.record.id}]
        case "mode" if question == "traced-modes":
            return [{"mode": None}, {"mode": "greedy"}]
        case "mode":
            return [{"head": head} for head in heads]
        case "epoch":
            return [{"epoch": None}, *({"epoch": e} for e in epochs[-1:])]
        case "step" if question == "top-routes":
            return [{"step": None}, {"step": first.step}]
        case "step":
            return [{"step": s.step} for s in run.steps[:: max(1, len(run.steps) // 3)][-4:]] or [{"step": 0}]
        case "component" if question == "win-rates":
            return [{"component": None}, {"component": some(first, "component")[0]}]
        case "component":
            return [{"component": c} for c in some(first, "component")[:3]]
        case "parameter" if question == "top-routes":
            return [{"parameter": "*"}, {"parameter": some(first, "parameter")[0]}]
        case "parameter":
            return [{"parameter": p} for p in some(first, "parameter")]
        case "order_by":
            return [{"order_by": o} for o in registry()[question].parameters["order_by"].choices]
        case "changes_only":
            return [{"changes_only": False}, {"changes_only": True}]
        case "limit" | "most":
            return [{parameter: 3}, {parameter: 10_000}]
    return [{}]


ASKINGS = list(askings())


@pytest.mark.parametrize("name", [n for n in registry() if n not in COMPUTED])
@pytest.mark.parametrize("run", list(all_runs()), ids=lambda r: "unicode" if r == UNICODE else r)
def test_answer_equals_plain_python(library: Library, run: str, name: str) -> None:
    asked = [given for of, question, given in ASKINGS if of == run and question == name]
    assert asked
    for given in asked:
        answer = library.run(name, **given)
        expected = ANSWERS[name](all_runs(), **answer.parameters)
        assert_rows(answer.rows, expected, list(registry()[name].columns))
        assert_typed(name, answer.rows)
        assert answer.columns == tuple(registry()[name].columns)
        assert not answer.truncated


def test_every_question_has_a_reference_and_rows_somewhere(library: Library) -> None:
    assert set(ANSWERS) == set(registry())
    for name in registry():
        if name not in COMPUTED:
            given = [g for _, question, g in ASKINGS if question == name]
            assert any(ANSWERS[name](all_runs(), **library.resolve(registry()[name], g)) for g in given), name


def test_the_runs_are_valid_steps() -> None:
    for run in all_runs().values():
        for step in run.steps:
            if run.record.id != "probe-only":  # whose steps have a path taken away
                check(step)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"status": "FAILED"},
        {"status": "RUNNING"},
        {"workload": "Wörk"},
        {"experiment": "trial"},
        {"experiment": "实验", "status": "FINISHED"},
        {"experiment": "nope"},
        {"limit": 2},
    ],
)
def test_runs(library: Library, given: dict[str, Any]) -> None:
    answer = library.run("runs", **given)
    assert_rows(answer.rows, ANSWERS["runs"](all_runs(), **answer.parameters), list(answer.columns))
    assert_typed("runs", answer.rows)
    started = answer.column("started")
    assert started == sorted(started, reverse=True)


def test_run_ids(library: Library) -> None:
    for most in (2, 100):
        answer = library.run("run-ids", most=most)
        assert_rows(answer.rows, ANSWERS["run-ids"](all_runs(), most), list(answer.columns))
        assert_typed("run-ids", answer.rows)


def test_store_size(library: Library, filled: Any) -> None:
    answer = library.run("store-size")
    assert_typed("store-size", answer.rows)
    found = {(row["kind"], row["name"]): row["count"] for row in answer.rows}
    assert len(found) == len(answer.rows)
    expected = {(row["kind"], row["name"]): row["count"] for row in ANSWERS["store-size"](all_runs())}
    expected["relationship", "ON"] += found["node", "Path"] + found["node", "Epoch"]
    assert {key: found[key] for key in expected} == expected
    # Every label and type that the store holds is in the list, but for the record of its schema.
    labels = {r[0] for r in filled.execute_query("CALL db.labels()", database_="neo4j").records}
    types = {r[0] for r in filled.execute_query("CALL db.relationshipTypes()", database_="neo4j").records}
    assert {name for kind, name in found if kind == "node"} >= labels - {"Migration"}
    assert {name for kind, name in found if kind == "relationship"} >= types
    assert found["relationship", "*"] == sum(n for (k, t), n in found.items() if k == "relationship" and t != "*")


def test_defaults_are_the_newest_run_and_what_it_has(library: Library) -> None:
    newest = next(r for r in reversed(all_runs().values()) if r.steps)
    answer = library.run("graph-at-step")
    assert answer.parameters == {"run": newest.record.id, "mode": "maxprod", "batch": "probe", "step": 5}
    answer = library.run("graph-at-step", run="mixed")
    assert answer.parameters == {"run": "mixed", "mode": "greedy", "batch": "training", "step": 50}
    assert library.run("graph-at-step", run="mixed", mode="maxprod").parameters["step"] == 40
    assert library.run("graph-at-step", run="mixed", batch="probe").parameters["step"] == 50
    assert library.run("graph-at-step", run=None, mode=None).parameters["mode"] == "maxprod"


def test_an_empty_answer_says_which_parameter_names_nothing(library: Library) -> None:
    assert library.run("graph-at-step", run="plane").notes == ("There is no run 'plane' there; did you mean plain?",)
    assert library.run("win-rates", run="plain", mode="gredy").notes == (
        "There is no mode 'gredy' there; did you mean greedy?",
    )
    answer = library.run("component-over-time", run="plain", component="embd")
    assert answer.notes == ("There is no component 'embd' there; did you mean embed?",)
    assert library.run("graph-at-step", run="plain", step=77).notes == (
        "There is no step 77 there; the nearest is 13.",
    )
    assert library.run("graph-at-step", run="plain", batch="prob").notes[0].startswith("There is no batch 'prob' there")
    assert library.run("graph-at-step", run="no-steps").notes[0].startswith("There is nothing to take a default mode")


def _paths_to_loss(nodes: dict[str, Any], relationships: list[Any]) -> set[tuple[int, int]]:
    return {
        (nodes[r["start"]]["properties"]["idx"], nodes[r["end"]]["properties"]["idx"])
        for r in relationships
        if r["type"] == "EDGE"
    }


@pytest.mark.parametrize("run", ["plain", "graphs", UNICODE], ids=["plain", "graphs", "unicode"])
def test_subgraphs_are_what_the_rows_say(library: Library, run: str) -> None:
    step = all_runs()[run].steps[-1]
    trace = step.traces[0]
    graph = trace.graph
    whole = library.subgraph("graph-at-step", run=run)
    nodes = {n["id"]: n for n in whole.nodes}
    assert sorted(n["properties"]["idx"] for n in whole.nodes) == [v.idx for v in graph.vertices]
    assert _paths_to_loss(nodes, whole.relationships) == {(e.source, e.target) for e in graph.edges}
    assert len(whole.relationships) == len(graph.edges)

    tree = library.subgraph("dominant-tree", run=run)
    nodes = {n["id"]: n for n in tree.nodes}
    dominant = {(e.source, e.target) for e in graph.edges if trace.dominant[e.idx]}
    assert _paths_to_loss(nodes, tree.relationships) == dominant

    parameter = next(p for p in trace.parameters if p.strongest)
    walk = library.subgraph("dominant-walk", run=run, parameter=parameter.parameter)
    nodes = {n["id"]: n for n in walk.nodes}
    rows = library.run("dominant-walk", run=run, parameter=parameter.parameter).rows
    assert len(walk.relationships) == len(rows)
    assert {nodes[r["end"]]["properties"]["name"] for r in walk.relationships} == {row["operator"] for row in rows}

    followed = library.subgraph("parameter-path", run=run, parameter=parameter.parameter)
    nodes = {n["id"]: n for n in followed.nodes}
    names = {n["properties"]["name"] for n in followed.nodes}
    assert names == {parameter.parameter} | {
        operator
        for row in library.run("parameter-path", run=run, parameter=parameter.parameter).rows
        for operator in row["operators"]
    }

    routes = library.subgraph("top-routes", run=run)
    assert {r["type"] for r in routes.relationships} == {"CROSSES"}


def test_a_question_without_subgraph_says_which_have_one(library: Library) -> None:
    with pytest.raises(QueryError, match=r"runs has no subgraph. These have one: .*graph-at-step"):
        library.subgraph("runs")


def test_answers_as_table_and_stream(library: Library) -> None:
    answer = library.run("graph-at-step", run="plain", step=3)
    frame = answer.to_pandas()
    assert list(frame.columns) == list(answer.columns)
    assert frame["edge"].tolist() == answer.column("edge") == [row["edge"] for row in answer]
    assert list(library.stream("graph-at-step", run="plain", step=3)) == answer.rows
    assert len(answer) == len(answer.rows) and answer.seconds > 0 and answer.name == "graph-at-step"
    empty = library.run("graph-at-step", run="plain", step=999).to_pandas()
    assert list(empty.columns) == list(answer.columns) and len(empty) == 0


def test_rows_beyond_the_cap_are_cut_and_said_so(filled: Any) -> None:
    answer = Library(filled, limit=5).run("graph-at-step", run="plain")
    assert len(answer.rows) == 5 and answer.truncated
    assert answer.notes == ("The answer was cut after 5 rows; more were there.",)
    exact = len(all_runs()["plain"].steps[-1].traces[0].graph.edges)
    assert not Library(filled, limit=exact).run("graph-at-step", run="plain").truncated
    assert Library(filled, limit=5).subgraph("graph-at-step", run="plain").truncated


def test_completion(library: Library) -> None:
    assert library.complete("runs", "status", "F") == ["FINISHED", "FAILED"]
    assert library.complete("epochs", "run", "p") == ["probe-only", "plain"]
    assert library.complete("graph-at-step", "step", "1", run="plain")[:2] == ["13", "12"]
    assert library.complete("graph-at-step", "batch", run="mixed") == ["training", "probe"]
    assert library.complete("component-over-time", "component", "emb", run="plain") == ["embed"]
    assert library.complete("parameter-path", "changes_only", "t") == ["true"]
    assert library.complete("runs", "limit") == library.complete("runs", "nope") == []
