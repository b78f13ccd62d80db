"""The command line against a real Neo4j: run, runs, query, cypher, db, completion, and what goes wrong."""

from __future__ import annotations

import csv
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gradtrace.service.local import ServerInfo
from tests.service.cli import COMMAND, completions, environment, gradtrace, ok, refused

ASK_ALL = """
import json
from click.testing import CliRunner
from gradtrace.service.cli.app import cli

def asked(*words):
    done = CliRunner().invoke(cli, [*words, "--format", "json"])
    assert done.exit_code == 0, (words, done.output, done.exception)
    return json.loads(done.stdout)

answered, needing = [], []
for row in asked("query"):
    about = asked("query", row["name"], "--about")
    if any(r.get("default") == "required" for r in about):
        needing.append(row["name"])
    else:
        asked("query", row["name"])
        answered.append(row["name"])
print(*answered)
print(*needing)
"""
"""Asks them one by one in one process: starting one for each takes minutes."""
SMALL = ("--set", "hidden=8", "--set", "embedding=6", "--set", "sequence_length=5", "--set", "characters=2000")


def settings(server: ServerInfo, **more: str) -> dict[str, str]:
    """The environment that names this server."""
    return environment(
        GRADTRACE_NEO4J_URI=server.uri,
        GRADTRACE_NEO4J_USER=server.user,
        GRADTRACE_NEO4J_PASSWORD=server.password,
        **more,
    )


@pytest.fixture(scope="module")
def env(neo4j_server: ServerInfo) -> dict[str, str]:
    return settings(neo4j_server)


@pytest.fixture(scope="module")
def run(env: dict[str, str]) -> str:
    """Id of a small char-lstm run that the command line has stored."""
    arguments = (*SMALL, "--steps", "24", "--every", "4", "--batch", "both", "--experiment", "cli-test")
    answer = json.loads(ok(gradtrace("run", "char-lstm", *arguments, "--format", "json", env=env)))
    assert (answer["status"], answer["traced"], answer["stored"]) == ("FINISHED", 6, 6)
    return str(answer["run"])


def rows(*arguments: str, env: dict[str, str]) -> list[dict[str, Any]]:
    return list(json.loads(ok(gradtrace(*arguments, "--format", "json", env=env))))


def test_a_run_ends_with_a_table_and_what_to_ask_next(env: dict[str, str]) -> None:
    done = gradtrace("run", "digits-mlp", "--set", "hidden=8", "--steps", "10", "--every", "5", env=env)
    text = ok(done)
    assert "Components that carried the dominant gradient path, by epoch" in text
    assert "2 traced steps of run digits-mlp-" in done.stderr
    suggested = [line.strip() for line in done.stderr.partition("Next:")[2].splitlines() if "gradtrace " in line]
    assert len(suggested) == 3
    for line in suggested:  # what is suggested works as it stands
        again = subprocess.run(
            ["sh", "-c", line], env={**env, "PATH": f"{COMMAND.parent}:{env['PATH']}"}, capture_output=True, text=True
        )
        assert again.returncode == 0, again.stderr
        assert len(again.stdout.splitlines()) > 3


def test_the_run_is_listed(env: dict[str, str], run: str) -> None:
    [row] = [r for r in rows("runs", "--experiment", "cli-test", env=env) if r["run"] == run]
    assert (row["workload"], row["status"], row["steps"], row["last_step"]) == ("char-lstm", "FINISHED", 6, 20)
    assert "hidden=8" in row["parameters"]
    assert run in ok(gradtrace("runs", env=env))
    assert all(r["status"] == "FAILED" for r in rows("runs", "--status", "failed", env=env))
    none = gradtrace("runs", "--experiment", "no such", env=env)
    ok(none)
    assert "No such run is stored" in none.stderr


def test_the_table_of_the_store_is_the_table_without_it(env: dict[str, str], run: str) -> None:
    """The library's answer, and the sums that runs without a store keep, are two ways to the same numbers."""
    stored = rows("query", "components-by-epoch", "-p", f"run={run}", env=env)
    arguments = (*SMALL, "--steps", "24", "--every", "4", "--batch", "both", "--sink", "memory", "--format", "json")
    kept = json.loads(ok(gradtrace("run", "char-lstm", *arguments)))["components"]
    mine = {(r["epoch"], r["component"]): r for r in kept if (r["mode"], r["batch"]) == ("greedy", "training")}
    assert stored
    for row in stored:
        other = mine[row["epoch"], row["component"]]
        for column in ("share", "foreign_share", "win_rate"):
            assert row[column] == pytest.approx(other[column]), (row["component"], column)


def test_formats_of_a_question(env: dict[str, str], run: str) -> None:
    arguments = ("query", "components-by-epoch", "-p", f"run={run}", "--format")
    listed = json.loads(ok(gradtrace(*arguments, "json", env=env)))
    lines = [json.loads(line) for line in ok(gradtrace(*arguments, "ndjson", env=env)).splitlines()]
    table = list(csv.DictReader(ok(gradtrace(*arguments, "csv", env=env)).splitlines()))
    assert listed == lines
    assert [r["component"] for r in listed] == [r["component"] for r in table]
    assert [r["share"] for r in listed] == [float(r["share"]) for r in table]


def test_every_question_can_be_asked_without_parameters_once_there_is_a_run(env: dict[str, str], run: str) -> None:
    asked = ok(subprocess.run([sys.executable, "-c", ASK_ALL], env=env, capture_output=True, text=True, check=False))
    names = {row["name"] for row in rows("query", env=env)}
    answered, needing = (set(line.split()) for line in asked.splitlines())
    assert answered | needing == names
    assert {"components-by-epoch", "hottest-edges", "runs"} <= answered


def test_questions_are_explained_without_a_server() -> None:
    done = gradtrace(
        "query", "components-by-epoch", "--about", env=environment(GRADTRACE_NEO4J_URI="bolt://127.0.0.1:9")
    )
    text = ok(done)
    assert "parameter" in text
    assert "share" in text


def test_wrong_question_or_parameter_is_refused_before_a_server_is_asked() -> None:
    nowhere = environment(GRADTRACE_NEO4J_URI="bolt://127.0.0.1:9", GRADTRACE_NEO4J_PASSWORD="x")
    assert "components-by-epoch" in refused(gradtrace("query", "component-by-epoch", env=nowhere), 2)
    said = refused(gradtrace("query", "components-by-epoch", "-p", "rum=x", env=nowhere), 2)
    assert "did you mean run?" in said


def test_cypher_reads(env: dict[str, str], run: str) -> None:
    text = "MATCH (s:Step {run: $run}) RETURN s.step AS step, s.loss AS loss ORDER BY step"
    steps = rows("cypher", text, "-p", f"run={run}", env=env)
    assert [r["step"] for r in steps] == [0, 4, 8, 12, 16, 20]
    from_stdin = gradtrace("cypher", "-", "--format", "json", env=env, stdin="RETURN 1 AS one")
    assert json.loads(ok(from_stdin)) == [{"one": 1}]
    cut = gradtrace("cypher", "UNWIND range(1, 50) AS n RETURN n", "--limit", "3", "--format", "csv", env=env)
    assert ok(cut).split() == ["n", "1", "2", "3"]
    assert "cut after 3 rows" in cut.stderr


@pytest.mark.parametrize(
    "text",
    [
        "CREATE (n:Planted) RETURN n",
        "MATCH (r:Run) DETACH DELETE r",
        "LOAD CSV FROM 'file:///etc/passwd' AS line RETURN line",
        "CALL dbms.listConfig() YIELD name RETURN name",
        "SHOW USERS",
    ],
)
def test_what_is_not_reading_is_refused(env: dict[str, str], text: str) -> None:
    refused(gradtrace("cypher", text, env=env), 4)
    assert rows("cypher", "MATCH (n:Planted) RETURN count(n) AS n", env=env) == [{"n": 0}]


def test_write_allows_writing(env: dict[str, str]) -> None:
    ok(gradtrace("cypher", "--write", "CREATE (:Planted {by: $by})", "-p", "by=cli", env=env))
    assert rows("cypher", "MATCH (n:Planted) RETURN n.by AS by", env=env) == [{"by": "cli"}]
    ok(gradtrace("cypher", "--write", "MATCH (n:Planted) DELETE n", env=env))


def test_bad_cypher_is_an_error_in_plain_words(env: dict[str, str]) -> None:
    said = refused(gradtrace("cypher", "MATCH (n RETURN n", env=env), 1)
    assert "Neo.ClientError" not in said.splitlines()[0]


def test_plans_of_queries(env: dict[str, str], run: str) -> None:
    text, given = "MATCH (s:Step) WHERE s.run = $run AND s.step >= 0 RETURN count(s) AS steps", ("-p", f"run={run}")
    plan = rows("cypher", "--explain", text, *given, env=env)
    assert plan[0]["operator"] == "ProduceResults" and "rows" not in plan[0]
    assert "Step(run, step)" in plan[-1]["details"]
    profile = rows("cypher", "--profile", text, *given, env=env)
    assert profile[-1]["rows"] == 6 and profile[-1]["db_hits"] > 6
    branched = "MATCH (r:Run {id: $run}) CALL (r) { MATCH (r)-[:HAS_STEP]->(s) RETURN count(s) AS n } RETURN r.id, n"
    shown = gradtrace("cypher", "--profile", branched, *given, env=env)
    table = ok(shown).splitlines()
    assert [word in table[1] for word in ("operator", "details", "rows", "db_hits", "depth")] == [True] * 4 + [False]
    assert any(line.startswith("   Expand") for line in table), "a branch is not indented"
    assert "1 rows, " in shown.stderr


def test_plans_are_of_reading_queries(env: dict[str, str]) -> None:
    for option in ("--explain", "--profile"):
        assert "it writes (Create)" in refused(gradtrace("cypher", option, "CREATE (n:Planted)", env=env), 4)
        assert "reading queries only" in refused(gradtrace("cypher", option, "--write", "CREATE (n)", env=env), 2)
        assert "shown whole" in refused(gradtrace("cypher", option, "--limit", "3", "RETURN 1", env=env), 2)
    assert "choose one" in refused(gradtrace("cypher", "--explain", "--profile", "RETURN 1", env=env), 2)
    assert rows("cypher", "MATCH (n:Planted) RETURN count(n) AS n", env=env) == [{"n": 0}]


def test_nothing_answers(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    env = environment(GRADTRACE_NEO4J_URI=f"bolt://127.0.0.1:{port}", GRADTRACE_NEO4J_PASSWORD="x")
    for arguments in (["runs"], ["query", "runs"], ["cypher", "RETURN 1"], ["db", "status"], ["run", "digits-mlp"]):
        said = refused(gradtrace(*arguments, env=env), 3)
        assert f"127.0.0.1:{port}" in said


def test_wrong_password(neo4j_server: ServerInfo) -> None:
    said = refused(gradtrace("runs", env=settings(neo4j_server) | {"GRADTRACE_NEO4J_PASSWORD": "pl4nted"}), 4)
    assert "GRADTRACE_NEO4J_PASSWORD" in said
    assert "pl4nted" not in said


def test_the_password_is_nowhere_to_be_seen(neo4j_server: ServerInfo, env: dict[str, str]) -> None:
    for arguments in (["-vv", "runs"], ["--debug", "cypher", "CREATE (n)"], ["db", "status"], ["-vv", "query", "runs"]):
        done = gradtrace(*arguments, env=env)
        assert neo4j_server.password not in done.stdout + done.stderr


def test_check_finds_sums_that_are_not_true_and_makes_them_anew(env: dict[str, str], run: str) -> None:
    [row] = rows("db", "check", "--run", run, env=env)
    assert (row["steps"], row["pruned"], row["rollups"], row["wrong"]) == (6, 0, "true", 0)
    change = "MATCH (:Run {id: $run})-[e:EPOCH_SHARE]->() WITH e LIMIT 1 SET e.traffic = e.traffic + 1"
    ok(gradtrace("cypher", "--write", change, "-p", f"run={run}", env=env))
    done = gradtrace("db", "check", "--run", run, "--format", "json", env=env)
    assert done.returncode == 1 and "of 1 of 1 runs are not what their steps add up to" in done.stderr
    [row] = json.loads(done.stdout)
    assert (row["rollups"], row["wrong"]) == ("wrong", 1) and "traffic" in row["example"]
    assert [r["rollups"] for r in rows("db", "check", "--run", run, "--rebuild", env=env)] == ["rebuilt"]
    assert [r["rollups"] for r in rows("db", "check", "--run", run, env=env)] == ["true"]


def test_status_of_a_given_server(env: dict[str, str], neo4j_server: ServerInfo) -> None:
    [row] = rows("db", "status", env=env)
    assert (row["server"], row["state"], row["address"]) == ("given", "running", neo4j_server.uri)
    assert "which gradtrace neither starts nor stops" in refused(gradtrace("db", "stop", env=env), 2)


def test_status_of_an_embedded_server_that_does_not_run(tmp_path: Path) -> None:
    done = gradtrace("db", "status", "--format", "json", env=environment(GRADTRACE_DATA=str(tmp_path)))
    assert done.returncode == 3
    [row] = json.loads(done.stdout)
    assert (row["server"], row["state"], row["data"]) == ("embedded", "stopped", str(tmp_path))


def test_completion_of_run_ids(env: dict[str, str], run: str) -> None:
    offered = completions(["gradtrace", "query", "components-by-epoch", "-p", "run=char-l"], env=env)
    assert f"run={run}" in offered
    nowhere = environment(GRADTRACE_NEO4J_URI="bolt://127.0.0.1:9", GRADTRACE_NEO4J_PASSWORD="x")
    assert completions(["gradtrace", "query", "components-by-epoch", "-p", "run=c"], env=nowhere) == []


def test_completion_never_starts_a_server(tmp_path: Path) -> None:
    env = environment(GRADTRACE_DATA=str(tmp_path / "data"))
    assert completions(["gradtrace", "query", "components-by-epoch", "-p", "run=c"], env=env) == []
    assert not (tmp_path / "data").exists()


def test_ctrl_c_leaves_whole_steps_in_the_store(env: dict[str, str]) -> None:
    running = subprocess.Popen(
        [COMMAND, "run", "digits-mlp", "--epochs", "10000", "--every", "20", "--experiment", "ctrl-c"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stderr is not None
    said = ""
    while "epoch 3/10000" not in said:
        line = running.stderr.readline()
        assert line, said
        said += line
    running.send_signal(signal.SIGINT)
    _, rest = running.communicate(timeout=120)
    assert running.returncode == 130, rest
    [row] = rows("runs", "--experiment", "ctrl-c", env=env)
    assert row["status"] == "INTERRUPTED"
    assert f"{row['steps']} traced steps of run {row['run']} are in the graph database, whole." in rest
    text = "MATCH (:Run {id: $run})-[:HAS_STEP]->(s) WHERE (s)-[:HAS_TRACE]->() RETURN s.step AS step ORDER BY step"
    steps = [r["step"] for r in rows("cypher", text, "-p", f"run={row['run']}", env=env)]
    assert steps == list(range(0, 20 * row["steps"], 20))


@pytest.mark.full
@pytest.mark.parametrize(
    "options,folded",
    [(("--fold", "always"), True), (("--fold", "never"), False), (("--fold-edges", "50"), True), ((), False)],
    ids=["always", "never", "from 50 edges on", "by default"],
)
def test_graphs_are_stored_folded_where_a_run_asks_for_it(
    env: dict[str, str], options: tuple[str, ...], folded: bool
) -> None:
    arguments = (*SMALL, "--steps", "2", "--every", "1", *options)
    answer = json.loads(ok(gradtrace("run", "char-lstm", *arguments, "--format", "json", env=env)))
    text = (
        "MATCH (:Run {id: $run})-[:HAS_STEP]->(:Step)-[:HAS_TRACE]->(:Trace)-[:ON]->(g:Graph) "
        "RETURN DISTINCT g.folded AS folded, g.edges AS edges, g.vertices AS vertices"
    )
    [graph] = rows("cypher", text, "-p", f"run={answer['run']}", env=env)
    assert graph["folded"] is folded
    assert folded or graph["edges"] > 50, "by default only much larger graphs are folded"
