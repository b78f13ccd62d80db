"""Every question against its answer in plain Python, over a store full of odd runs."""

from __future__ import annotations

import time
from typing import Any

import pytest

from gradtrace.queries import Library, registry
from gradtrace.queries.plan import scans
from gradtrace.tracer.errors import QueryError
from tests.queries.checks import COMPUTED, askings, assert_rows, assert_typed
from tests.queries.reference_lists import ANSWERS
from tests.queries.worlds import UNICODE, all_runs
from tests.valid_steps import check

ASKINGS = list(askings(all_runs()))


@pytest.mark.parametrize(
    ("run", "name"),
    dict.fromkeys((run, name) for run, name, _ in ASKINGS),
    ids=lambda word: "unicode" if word == UNICODE else word,
)
def test_answer_equals_plain_python(library: Library, run: str, name: str) -> None:
    for given in [given for of, question, given in ASKINGS if (of, question) == (run, name)]:
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


@pytest.mark.parametrize("name", [n for n in registry() if n != "store-size"])  # which the store's own counters answer
def test_no_question_reads_all_of_a_kind(library: Library, filled: Any, name: str) -> None:
    question = registry()[name]
    given = {"component": "embed", "parameter": "embed.p0", "hyperparameter": "lr"}
    asked = library.resolve(question, {k: v for k, v in given.items() if k in question.parameters})
    for text in filter(None, (question.cypher, question.subgraph)):
        for _ in range(30):  # the server counts what was written just now in its own time, and plans by these counts
            found = _scans(filled, text, asked)
            if not found:
                break
            time.sleep(1)
            filled.execute_query("CALL db.clearQueryCaches()", database_="neo4j")
        assert not found


def _scans(driver: Any, text: str, asked: dict[str, Any]) -> list[str]:
    """Operators of the plan that read all nodes or relationships of a kind."""
    plan = driver.execute_query("EXPLAIN " + text, asked, database_="neo4j").summary.plan
    return scans(plan)


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
        for operator in row["operators"] or ()
    }

    routes = library.subgraph("top-routes", run=run)
    assert {r["type"] for r in routes.relationships} == {"CROSSES"}


def test_scalars_are_drawn_as_the_rows_say(library: Library) -> None:
    asked = {"run": "mixed", "step": 40, "mode": "maxprod"}
    rows = library.run("scalar-graph-at-step", **asked).rows
    drawn = library.subgraph("scalar-graph-at-step", **asked)
    edges = sorted(r["properties"]["idx"] for r in drawn.relationships if r["type"] == "WEIGHS")
    assert edges == [row["edge"] for row in rows]
    taken = sorted(r["properties"]["idx"] for r in drawn.relationships if r["type"] == "NEXT")
    assert taken == [row["edge"] for row in rows if row["taken"]]
    parameter = next(p.parameter for p in all_runs()["mixed"].steps[4].traces[0].parameters if p.strongest)
    walk = library.run("scalar-path", parameter=parameter, **asked).rows
    path = library.subgraph("scalar-path", parameter=parameter, **asked)
    assert len(walk) == len(path.relationships) == len(path.nodes) - 1 > 1
    assert sorted(r["properties"]["weight"] for r in path.relationships) == sorted(row["weight"] for row in walk)


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


def test_a_key_says_what_a_look_up_lists(library: Library) -> None:
    listed = {
        column: [row[column] for row in library.run(name).rows]
        for column, name in (("run", "run-ids"), ("experiment", "experiment-names"), ("workload", "workload-names"))
    }
    for column, values in listed.items():
        assert values
        assert all(library._is_there(column, value, None) for value in values)
        assert not library._is_there(column, values[0] + "x", None)
    for experiment in listed["experiment"]:
        within = {row["workload"] for row in library.run("workload-names", experiment=experiment).rows}
        assert within == {w for w in listed["workload"] if library._is_there("workload", w, experiment)}
