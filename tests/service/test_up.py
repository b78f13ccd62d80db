"""`up`, `status` and `down` as a person calls them: real servers, a real worker, real kills."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from gradtrace.service.local import ServerInfo, server_status, stop_server
from gradtrace.service.local.upkeep import stop
from gradtrace.service.local.upkeep_home import SUPERVISOR, UpkeepHome
from gradtrace.service.local.valkey import ValkeyInfo, stop_valkey, valkey_status
from gradtrace.service.status import RUNNING, WORKER, Row, whole
from tests.service.cli import environment, gradtrace, ok, refused
from tests.service.example import install_spirals
from tests.service.local.support import until

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder; whatever still runs there is stopped at the end."""
    folder = tmp_path_factory.mktemp("up") / "my data"  # the space is meant
    yield folder
    stop(folder, [WORKER], wait=5)
    stop_valkey(folder)
    stop_server(folder)


@pytest.fixture(scope="module")
def env(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of the commands, in which the example package is installed."""
    site = install_spirals(tmp_path_factory.mktemp("example"))
    return environment(GRADTRACE_DATA=str(data), PYTHONWARNINGS="ignore", PYTHONPATH=str(site))


def rows(output: str) -> Rows:
    """The rows that `--format json` wrote."""
    found: Rows = json.loads(output)
    return found


def row(found: Rows, part: str, **more: object) -> dict[str, Any]:
    """The one row of this part, and with these values."""
    matching = [r for r in found if r["part"] == part and all(r[k] == v for k, v in more.items())]
    assert len(matching) == 1, found
    return matching[0]


def answering(env: dict[str, str]) -> str | None:
    """Name of the worker that answers."""
    found = rows(gradtrace("status", "--format", "json", env=env).stdout)
    return next((r["name"] for r in found if r["part"] == "worker" and r["detail"] == "answers"), None)


def test_nothing_runs_at_first(env: dict[str, str], data: Path) -> None:
    done = gradtrace("status", "--format", "json", env=env)
    assert done.returncode == 3
    assert {r["part"]: r["state"] for r in rows(done.stdout)} == dict.fromkeys(
        ("neo4j", "valkey", "supervisor", "worker"), "stopped"
    )
    assert "Nothing was running." in gradtrace("down", env=env).stderr
    assert not data.exists(), "looking makes nothing"


def test_up_returns_when_all_three_answer_and_a_run_goes_through(env: dict[str, str]) -> None:
    found = rows(ok(gradtrace("up", "--format", "json", env=env)))
    worker = row(found, "worker", detail="answers")
    assert worker["name"].startswith(f"gradtrace-{row(found, 'worker', name='of `up`')['pid']}@")
    assert row(found, "neo4j")["state"] == row(found, "valkey")["state"] == "running"
    assert row(found, "queue", name="gradtrace.segments")["count"] == 0
    said = ok(gradtrace("submit", "digits-mlp", "--set", "steps=5", "--wait", "--format", "json", env=env))
    (run,) = json.loads(said)
    listed = json.loads(ok(gradtrace("runs", "--format", "json", env=env)))
    assert [(r["run"], r["status"]) for r in listed] == [(run["run"], "FINISHED")]
    asked = "MATCH (r:Run) RETURN r.held_out_loss AS loss, r.held_out_accuracy AS accuracy"
    [held_out] = json.loads(ok(gradtrace("cypher", asked, "--format", "json", env=env)))
    assert held_out["loss"] > 0 and 0 < held_out["accuracy"] < 1, "the worker measured it at the end"


def test_a_second_up_changes_nothing(env: dict[str, str]) -> None:
    before = rows(ok(gradtrace("status", "--format", "json", env=env)))
    done = gradtrace("up", "--format", "json", env=env)
    assert "kept already" in done.stderr
    assert [(r["part"], r["name"], r["pid"]) for r in rows(ok(done))] == [
        (r["part"], r["name"], r["pid"]) for r in before
    ]


def test_generated_passwords_show_nowhere(env: dict[str, str], data: Path) -> None:
    neo4j, valkey = server_status(data), valkey_status(data)
    assert neo4j is not None and valkey is not None
    own = [p for p in psutil.process_iter(["cmdline"]) if any(str(data) in a for a in p.info["cmdline"] or [])]
    assert len(own) >= 5, "two servers, a watchdog, a supervisor, a worker"
    for secret in (neo4j.password, valkey.password):
        for process in own:
            assert secret not in " ".join(process.info["cmdline"])
        for path in data.rglob("*"):
            if path.is_file() and path.name not in ("password", "valkey.conf"):
                assert secret.encode() not in path.read_bytes(), path


@pytest.mark.full
def test_what_is_killed_is_started_again(env: dict[str, str], data: Path) -> None:
    home = UpkeepHome.of(data)
    worker, valkey, neo4j = home.process(WORKER), valkey_status(data), server_status(data)
    assert worker is not None and valkey is not None and neo4j is not None
    for pid in (worker.pid, valkey.pid, neo4j.pid):
        os.kill(pid, signal.SIGKILL)

    def all_new() -> bool:
        new_worker, new_valkey, new_neo4j = home.process(WORKER), valkey_status(data), server_status(data)
        return (
            new_worker is not None
            and new_worker.pid != worker.pid
            and new_valkey is not None
            and new_valkey.pid != valkey.pid
            and new_neo4j is not None
            and new_neo4j.pid != neo4j.pid
        )

    assert until(all_new, 120), home.last_lines(SUPERVISOR)
    again = valkey_status(data)
    assert again is not None and again.url == valkey.url, "workers look for it where it was"
    assert until(lambda: answering(env) is not None, 60), home.last_lines(WORKER)
    ok(gradtrace("submit", "digits-mlp", "--set", "steps=3", "--wait", env=env))


def test_another_supervisor_takes_over(env: dict[str, str], data: Path) -> None:
    home = UpkeepHome.of(data)
    old, worker = home.process(SUPERVISOR), home.process(WORKER)
    assert old is not None and worker is not None
    os.kill(old.pid, signal.SIGKILL)
    assert until(lambda: home.process(SUPERVISOR) is None, 10)
    found = rows(ok(gradtrace("up", "--format", "json", env=env)))
    assert row(found, "supervisor")["pid"] not in (None, old.pid)
    assert row(found, "worker", name="of `up`")["pid"] == worker.pid, "the worker goes on"


@pytest.mark.full
def test_down_puts_a_run_in_work_back_and_the_next_up_ends_it(env: dict[str, str]) -> None:
    """The run is of the example package, which the worker finds by its entry point."""
    size = ("--epochs", "60", "--every", "5", "--set", "depth=2")
    (queued,) = json.loads(ok(gradtrace("submit", "spirals", *size, "--format", "json", env=env)))

    def seen() -> dict[str, Any]:
        found: Rows = json.loads(ok(gradtrace("runs", "--format", "json", env=env)))
        return next(r for r in found if r["run"] == queued["run"])

    assert until(lambda: (seen()["steps"] or 0) > 0, 120), "it is being trained"
    assert gradtrace("down", env=env).stderr == "Stopped: supervisor, worker, Valkey, Neo4j.\n"
    ok(gradtrace("db", "start", env=env))
    left = seen()
    assert left["status"] == "QUEUED", "put back, neither lost nor failed"
    ok(gradtrace("up", env=env))
    assert until(lambda: seen()["status"] == "FINISHED", 240), seen()
    asked = "MATCH (r:Run {id: $run})-[:HAS_STEP]->(s:Step) RETURN s.step AS step ORDER BY step"
    stored = json.loads(ok(gradtrace("cypher", asked, "-p", f"run={queued['run']}", "--format", "json", env=env)))
    steps = [r["step"] for r in stored]
    assert steps == list(range(0, steps[-1] + 1, 5)) and len(steps) > left["steps"], "every step once"


def test_status_can_ask_for_a_worker_of_this_machine(env: dict[str, str]) -> None:
    ok(gradtrace("status", "--here", env=env))
    elsewhere = [Row("neo4j", "given", RUNNING), Row("valkey", "given", RUNNING), Row("worker", "w@other", RUNNING)]
    answers = [*elsewhere[:2], replace(elsewhere[2], detail="answers")]
    assert whole(answers) and whole(answers, "other") and not whole(answers, "this")
    assert not whole(elsewhere) and not whole(answers[1:]), "kept but silent, or without a store"


def test_down_stops_all_and_a_second_down_nothing(env: dict[str, str], data: Path) -> None:
    done = gradtrace("down", env=env)
    assert ok(done) == ""
    assert done.stderr == "Stopped: supervisor, worker, Valkey, Neo4j.\n"
    assert not [p for p in psutil.process_iter(["cmdline"]) if any(str(data) in a for a in p.info["cmdline"] or [])]
    assert gradtrace("down", env=env).stderr == "Nothing was running.\n"
    assert gradtrace("status", env=env).returncode == 3


@pytest.mark.full
def test_servers_of_ones_own_are_used_and_left_alone(
    neo4j_server: ServerInfo, valkey_server: ValkeyInfo, tmp_path: Path
) -> None:
    env = environment(
        GRADTRACE_DATA=str(tmp_path),
        GRADTRACE_NEO4J_URI=neo4j_server.uri,
        GRADTRACE_NEO4J_PASSWORD=neo4j_server.password,
        GRADTRACE_REDIS_URI=f"redis://127.0.0.1:{valkey_server.port}/7",
        GRADTRACE_REDIS_PASSWORD=valkey_server.password,
        GRADTRACE_LOG_FORMAT="json",
        GRADTRACE_METRICS_FILE=str(tmp_path / "gradtrace.prom"),
        PYTHONWARNINGS="ignore",
    )
    try:
        found = rows(ok(gradtrace("up", "--concurrency", "2", "--format", "json", env=env)))
        assert row(found, "neo4j")["name"] == row(found, "valkey")["name"] == "given"
        pids = [row(found, "supervisor")["pid"], row(found, "worker", name="of `up`")["pid"]]
        family = [one for pid in pids for one in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))]
        assert len(family) >= 4
        for process in family:
            command = " ".join(process.cmdline())
            assert neo4j_server.password not in command and valkey_server.password not in command
        said = ok(gradtrace("submit", "digits-mlp", "--set", "steps=6", "--wait", "--format", "json", env=env))
        run = json.loads(said)[0]["run"]
        assert gradtrace("down", env=env).stderr == "Stopped: supervisor, worker.\n"
        logs = "".join(path.read_text() for path in UpkeepHome.of(tmp_path).logs.iterdir())
        assert neo4j_server.password not in logs and valkey_server.password not in logs
        lines = [json.loads(line) for line in logs.splitlines() if line.startswith("{")]
        assert any(line["logger"].startswith("celery") and "ready" in line["message"] for line in lines)
        about_last = [line for line in lines if line.get("run") == run and line.get("step") == 5]
        assert about_last and all(line["segment"] >= 1 for line in about_last)
        counts = (tmp_path / "gradtrace.prom").read_text()
        assert 'gradtrace_segments_total{outcome="finished"} 1.0' in counts
        assert 'gradtrace_steps_total{traced="no"} 5.0' in counts and "gradtrace_steps_stored_total 1.0" in counts
        assert 'gradtrace_queue_messages{queue="gradtrace.segments",state="waiting"} 0.0' in counts
        assert not (tmp_path / "neo4j").exists() and not (tmp_path / "valkey").exists()
    finally:
        stop(tmp_path, [WORKER], wait=5)
    assert valkey_status(valkey_server.data) == valkey_server
    after = rows(gradtrace("status", "--format", "json", env=env).stdout)
    assert row(after, "neo4j")["state"] == row(after, "valkey")["state"] == "running"


def test_dead_servers_of_ones_own_are_told(tmp_path: Path) -> None:
    env = environment(GRADTRACE_DATA=str(tmp_path), GRADTRACE_REDIS_URI="redis://:pl4nted@127.0.0.1:1/0")
    said = refused(gradtrace("up", env=env), 3)
    assert "redis://127.0.0.1:1/0 does not answer" in said and "pl4nted" not in said
    done = gradtrace("status", "--format", "json", env=env)
    assert done.returncode == 3 and row(rows(done.stdout), "valkey")["state"] == "no answer"
    assert "pl4nted" not in done.stdout + done.stderr
