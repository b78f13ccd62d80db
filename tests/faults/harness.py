"""Real workers on a real store and a real queue, and what their runs look like afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from neo4j import GraphDatabase

from gradtrace.service.checkpoint import checkpoint_path, read_weights
from gradtrace.service.jobs.limits import CONTROL, QUEUE
from gradtrace.service.local import ServerInfo
from gradtrace.service.local.valkey import ValkeyInfo
from gradtrace.service.runner import RunHooks, run
from gradtrace.service.spec import RunSpec, new_run_id, spec_from_text
from gradtrace.service.store import Neo4jSink, Store, connect
from gradtrace.service.store.check import check_rollups
from gradtrace.service.store.jobs import Jobs, Ticket
from gradtrace.service.workloads.instance import WorkloadInstance
from gradtrace.tracer.steptrace import RunRecord

ROOT = Path(__file__).resolve().parents[2]
OVER = ("FINISHED", "INTERRUPTED", "FAILED")
QUICK = {
    "CHECKPOINT_STEPS": "4",
    "SEGMENT_STEPS": "10",
    "REAP_SECONDS": "1.5",
    "LEASE_SECONDS": "6",
    "TIME_LIMIT": "60",
    "STORE_PATIENCE": "40",
    "WORKLOAD_MODULES": "tests.faults.workloads",
}
"""Limits that make faults and their repair quick to see."""


@dataclass
class Site:
    """A store, a queue and a folder of checkpoints.

    Attributes:
        folder: for files of the tests.
        neo4j, valkey: the servers.
        embedded: whether workers find Neo4j by its data folder, and may start it again.
        environment: more environment variables of workers, without the prefix `GRADTRACE_`.
    """

    folder: Path
    neo4j: ServerInfo
    valkey: ValkeyInfo
    embedded: bool = False
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def variables(self) -> dict[str, str]:
        """The environment of a process that works here."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("GRADTRACE_")}
        store = (
            {"DATA": str(self.neo4j.data), "IDLE": "60"}
            if self.embedded
            else {"NEO4J_URI": self.neo4j.uri, "NEO4J_USER": self.neo4j.user, "NEO4J_PASSWORD": self.neo4j.password}
        )
        ours = {
            **QUICK,
            **store,
            "REDIS_URI": self.valkey.url,
            "CHECKPOINTS": str(self.checkpoints),
            **self.environment,
        }
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {
            **kept,
            **{f"GRADTRACE_{name}": value for name, value in ours.items()},
            "PYTHONPATH": os.pathsep.join(paths),
            "OMP_NUM_THREADS": "1",
            "FAULT_DONE": str(self.folder / "kills"),
            "FAULT_PHASE": str(self.folder / "phase"),
        }

    @contextmanager
    def store(self) -> Iterator[Store]:
        """A connection to the store."""
        with connect(self.neo4j.uri, self.neo4j.user, self.neo4j.password, "neo4j") as store:
            yield store

    def spec(self, steps: int = 24, **parameters: object) -> RunSpec:
        """A spec of `fault-net`, traced at every second step, on one thread."""
        given = {"steps": str(steps), **{k: str(v) for k, v in parameters.items()}}
        return spec_from_text("fault-net", given, every=2, batches="both", threads=1)

    def submit(self, spec: RunSpec, run: str | None = None, *, queue: bool = True) -> Ticket:
        """Write a run as `gradtrace submit` does, and put its ticket into the queue."""
        run = run or new_run_id(spec.workload, 8)
        record = RunRecord(run, spec.workload, spec.experiment, spec.record_parameters(), spec.modes)
        with self.store() as store:
            ticket = Jobs(store).submit(record, spec.model_dump_json())
        if queue:
            self.put(ticket)
        return ticket

    def put(self, ticket: Ticket) -> None:
        """Put a ticket into the queue, in a process of its own: Celery's app is one a process."""
        code = (
            "from gradtrace.service.jobs.queue import enqueue; from gradtrace.service.store.jobs import Ticket\n"
            f"assert enqueue(Ticket({ticket.run!r}, {ticket.fence}))"
        )
        subprocess.run([sys.executable, "-c", code], env=self.variables(), check=True, timeout=120)

    def look(self, run: str) -> dict[str, Any]:
        """All properties of a run."""
        return self.ask("MATCH (r:Run {id: $run}) RETURN properties(r) AS r", run=run)[0]["r"]

    def ask(self, cypher: str, **parameters: Any) -> list[dict[str, Any]]:
        """The rows of a query."""
        auth = (self.neo4j.user, self.neo4j.password)
        with GraphDatabase.driver(self.neo4j.uri, auth=auth) as driver, driver.session(database="neo4j") as session:
            return session.run(cypher, **parameters).data()

    def wait(
        self, run: str, seconds: float = 150, until: Callable[[dict[str, Any]], bool] | None = None
    ) -> dict[str, Any]:
        """The run, once it is over (or `until` says so); fails after so many seconds."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.look(run)
            if until(found) if until else found["status"] in OVER:
                return found
            assert time.monotonic() < deadline, f"the run is still {found}"
            assert until is None or found["status"] not in OVER, f"the run is over: {found}"
            time.sleep(0.05)

    def weights(self, run: str) -> dict[str, torch.Tensor]:
        """The weights in a run's current checkpoint."""
        return read_weights(checkpoint_path(self.checkpoints, run, self.look(run)["checkpoint"]))

    def traces(self, run: str) -> list[Any]:
        """Everything that is stored of a run's steps, as plain data in a fixed order."""
        steps = self.ask("MATCH (:Run {id: $run})-[:HAS_STEP]->(s) RETURN properties(s) AS s ORDER BY s.step", run=run)
        links = self.ask(
            "MATCH (:Run {id: $run})-[:HAS_STEP]->(s)-[:HAS_TRACE]->(t) "
            "OPTIONAL MATCH (t)-[x:DOMINANT|TOP|LEFT|CARRIES|ON]->(n) "
            "RETURN s.step AS step, properties(t) AS t, type(x) AS kind, properties(x) AS x, "
            "coalesce(n.hash, n.key, n.fingerprint) AS n",
            run=run,
        )
        plain = [json.dumps(row, sort_keys=True, default=str).replace(run, "RUN") for row in (*steps, *links)]
        return sorted(plain)

    def steps(self, run: str) -> list[int]:
        """Numbers of a run's stored steps, each as often as it is there."""
        found = self.ask("MATCH (s:Step {run: $run}) RETURN s.step AS step ORDER BY step", run=run)
        return [row["step"] for row in found]

    def undisturbed(self, spec: RunSpec) -> tuple[str, dict[str, torch.Tensor]]:
        """The same run in this process, in one go; its id and its weights."""
        kept: list[WorkloadInstance] = []
        with self.store() as store, Neo4jSink.on(store) as sink:
            result = run(spec, sink, hooks=RunHooks(on_start=lambda run, instance, steps: kept.append(instance)))
        return result.run, {k: v.detach().clone() for k, v in kept[0].model.state_dict().items()}

    def same(self, run: str, other: str, weights: dict[str, torch.Tensor]) -> None:
        """Assert that two runs have the same steps, each once, with the same traces, and end with the same weights."""
        assert self.steps(run) == self.steps(other)
        assert self.traces(run) == self.traces(other)
        with self.store() as store:
            checked = check_rollups(store.driver, run, store.database)
        assert checked.state == "true", checked.examples
        found = self.weights(run)
        assert found.keys() == weights.keys()
        assert all(torch.equal(found[name], weights[name]) for name in weights)


class Worker:
    """A worker process; `with` ends it, its children and nothing else."""

    def __init__(
        self,
        site: Site,
        *arguments: str,
        plan: list[tuple[str, int]] | None = None,
        name: str = "w",
        **more: str,
    ) -> None:
        self.site, self.log = site, site.folder / f"worker-{name}-{time.monotonic_ns()}.log"
        variables = {**site.variables(), **{f"GRADTRACE_{k}": v for k, v in more.items()}}
        variables["FAULT_PLAN"] = json.dumps(plan or [])
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.entry", "worker", "--name", name, *arguments],
                env=variables,
                cwd=site.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            children = psutil.Process(self.process.pid).children(recursive=True)
            for one in (self.process, *children):
                if psutil.pid_exists(one.pid):
                    os.kill(one.pid, signal.SIGKILL)
            self.process.wait(30)

    def kill(self) -> None:
        """Kill the worker alone, with signal 9, and see that its processes end with it."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        assert children
        self.process.kill()
        self.process.wait(30)
        _, alive = psutil.wait_procs(children, timeout=30)
        assert not alive, f"{alive} outlive their worker"

    @property
    def text(self) -> str:
        """Its log so far."""
        return self.log.read_text("utf-8", "replace")

    def ready(self) -> Worker:
        """Wait until it takes tickets; one that does not get so far is ended."""
        try:
            self.wait_for(" ready.", 300)
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait_for(self, words: str, seconds: float = 90) -> None:
        """Wait until its log has these words."""
        deadline = time.monotonic() + seconds
        while words not in self.text:
            assert self.process.poll() is None, f"the worker has ended:\n{self.text}"
            assert time.monotonic() < deadline, f"no {words!r} in the log:\n{self.text}"
            time.sleep(0.05)

    def alive(self) -> bool:
        return self.process.poll() is None


def gradtrace(site: Site, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "gradtrace.service.cli", *arguments],
        env={**site.variables(), "NO_COLOR": "1"},
        cwd=site.folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == status, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    assert site.valkey.password not in done.stdout + done.stderr
    return done


def holder(site: Site, run: str) -> int:
    """The process that trains a run."""
    return int(json.loads(site.look(run)["holder"])["pid"])


def purge(site: Site) -> None:
    """Take all messages out of the queues."""
    import redis

    with redis.Redis.from_url(site.valkey.url) as client:
        client.delete(QUEUE, CONTROL, "unacked", "unacked_index")
