"""What runs and what waits: servers, supervisor, workers, queues, runs. Looks only; starts and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradtrace.service.broker import given_url, ping, without_secret
from gradtrace.tracer.errors import GradtraceError

if TYPE_CHECKING:
    from gradtrace.service.settings import Settings

RUNNING, STOPPED, SILENT = "running", "stopped", "no answer"
WORKER = "worker"
"""Name of the worker that `up` keeps."""


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was looked at.

    Attributes:
        part: "neo4j", "valkey", "supervisor", "worker", "queue" or "run".
        name: which of them.
        state: "running", "stopped" or "no answer"; of a run, its status; of a queue, "waiting" or "unacknowledged".
        count: messages of a queue; traced steps of a run.
        pid: its process, if it is one of ours on this machine.
        detail: more, for people.
    """

    part: str
    name: str
    state: str
    count: int | None = None
    pid: int | None = None
    detail: str | None = None


def look(settings: Settings, *, seconds: float = 1.0) -> list[Row]:
    """Look at everything once.

    Args:
        settings: which servers, and which data folder.
        seconds: how long each is waited for.
    """
    rows = [neo4j_row(settings)]
    url, row = queue_row(settings, seconds)
    rows += [row, *kept_rows(settings)]
    if url is not None:
        from gradtrace.service.jobs.queue import queue_lengths

        answering = workers(seconds)
        rows += [Row("worker", name, RUNNING, detail="answers") for name in answering]
        rows += [
            Row("queue", queue, state, count, detail="messages") for (queue, state), count in queue_lengths(url).items()
        ]
    if rows[0].state == RUNNING:
        rows += run_rows()
    return rows


def whole(rows: list[Row], host: str | None = None) -> bool:
    """Whether a Neo4j, a queue and a worker answer; of workers only those of a host count, where one is named."""
    found = [row for row in rows if row.state == RUNNING]
    workers = [row.name for row in found if row.part == "worker" and row.detail == "answers"]
    return {"neo4j", "valkey"} <= {row.part for row in found} and any(
        host is None or name.partition("@")[2] == host for name in workers
    )


def neo4j_row(settings: Settings) -> Row:
    """The graph database: asked for real."""
    from gradtrace.service.local import server_status

    pid = None
    if settings.neo4j_uri is None:
        info = server_status(settings.data)
        if info is None:
            return Row("neo4j", "embedded", STOPPED)
        pid, address, name = info.pid, info.uri, "embedded"
    else:
        address, name = settings.neo4j_uri, "given"
    from gradtrace.service.store import connect

    try:
        with connect(retry_seconds=1.0, progress=False, schema=False) as store:
            version = store.driver.get_server_info().agent
    except GradtraceError as error:
        return Row("neo4j", name, SILENT, pid=pid, detail=str(error).partition("\n")[0])
    return Row("neo4j", name, RUNNING, pid=pid, detail=f"{address}, {version}")


def queue_row(settings: Settings, seconds: float) -> tuple[str | None, Row]:
    """The queue's server, asked for real; with its address if it answers."""
    from gradtrace.service.local.valkey import valkey_status

    url, pid, name = given_url(settings), None, "given"
    if url is None:
        info = valkey_status(settings.data)
        if info is None:
            return None, Row("valkey", "embedded", STOPPED)
        url, pid, name = info.url, info.pid, "embedded"
    try:
        version = ping(url, seconds=seconds)
    except GradtraceError as error:
        return None, Row("valkey", name, SILENT, pid=pid, detail=str(error))
    return url, Row("valkey", name, RUNNING, pid=pid, detail=f"{without_secret(url)}, {version}")


def kept_rows(settings: Settings) -> Iterator[Row]:
    """The processes that `up` keeps, whether or not they answer."""
    from gradtrace.service.local.upkeep import parts

    for part in parts(settings.data, [WORKER]):
        kind = "worker" if part.name == WORKER else part.name
        log = f"log: {part.log}" if part.log.exists() else None
        yield Row(kind, "of `up`", STOPPED if part.pid is None else RUNNING, pid=part.pid, detail=log)


def workers(seconds: float) -> list[str]:
    """Names of the workers that answer, on whatever machine."""
    from gradtrace.service.jobs.app import app

    return sorted(name for answer in app().control.ping(timeout=seconds) for name in answer)


def run_rows() -> list[Row]:
    """The runs that are being trained."""
    from gradtrace.service.cli.store import opened_store

    with opened_store(start=False) as store:
        found = store.library.run("runs", status="RUNNING", limit=100).rows
    return [
        Row("run", r["run"], r["status"], r["steps"], detail=f"step {r['last_step']}, loss {r['loss']:.4g}")
        if r["loss"] is not None
        else Row("run", r["run"], r["status"], r["steps"])
        for r in found
    ]
