"""How fast the store takes steps, against raw CREATE through the same driver, and how much it grows.

    python -m benchmarks.store [--rounds 6] [--steps 64] [--batch 64] [--lasting]

Raw CREATE and traced steps take turns on one fresh embedded server, so that both meet the same machine, and change who
goes first from round to round; ratios are those within a round, the median of them with the least and the greatest.
Server CPU is what the server's process used meanwhile. An entity is a node or a relationship that the server says it
created; a raw one is a node with 5 properties (two numbers, a short text, a truth value, a number) and neither index nor
constraint, as many in a transaction as a batch of steps makes, and as many a round as its steps. What steps change
without creating it (the sums over a run and its epochs) is work of theirs that counts as no entity. Steps are varied
synthetic ones: most paths return, a few are new, as in training.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from neo4j import Driver

from gradtrace.service.local import ServerInfo, ensure_server, in_use, stop_server
from gradtrace.service.store.connect import open_store
from gradtrace.service.store.sink import Neo4jSink
from gradtrace.tracer.steptrace import StepTrace
from tests.synthetic import run_record, step_trace

_RAW = "UNWIND $rows AS r CREATE (:Raw {a: r[0], b: r[1], c: r[2], d: r[3], e: r[4]})"
_NOVELTY = 0.1
_WARM = 4


@dataclass
class Side:
    """Measurements of one side, one entry a round."""

    entities: list[int] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    new: list[tuple[int, int]] = field(default_factory=list)
    """New paths and new routes."""


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6, help="rounds that count, after four to warm up")
    parser.add_argument("--steps", type=int, default=64, help="steps a round")
    parser.add_argument("--batch", type=int, default=64, help="steps a transaction at most; 64 is the sink's default")
    parser.add_argument("--lasting", action="store_true", help="a server as `gradtrace up` starts it, fast once warm")
    parser.add_argument("--vertices", type=int, default=400)
    parser.add_argument("--parameters", type=int, default=60)
    arguments = parser.parse_args()
    rounds = [_steps(n, arguments) for n in range(_WARM + arguments.rounds)]
    raw, ours = Side(), Side()
    with tempfile.TemporaryDirectory(prefix="gradtrace-bench-") as folder:
        _speed(Path(folder), rounds, arguments.batch, arguments.lasting, raw, ours)
    with tempfile.TemporaryDirectory(prefix="gradtrace-bench-") as folder:
        grown = _growth(Path(folder), rounds)
    _print(raw, ours, rounds, arguments.batch, grown)


@contextmanager
def _server(data: Path, *, lasting: bool = False) -> Iterator[ServerInfo]:
    info = ensure_server(data, progress=False, lasting=lasting)
    try:
        with in_use(info):
            yield info
    finally:
        stop_server(data)


def _speed(data: Path, rounds: list[list[StepTrace]], batch_steps: int, lasting: bool, raw: Side, ours: Side) -> None:
    with (
        _server(data, lasting=lasting) as info,
        open_store(info.uri, info.user, info.password) as store,
        Neo4jSink.on(store, batch_steps=batch_steps) as sink,
    ):
        process = psutil.Process(info.pid)
        sink.open_run(run_record("bench"))
        entities = 20_000  # of a round of steps; known once there was one
        for number, steps in enumerate(rounds):
            before = _shared(store.driver)
            for side in (raw, ours) if number % 2 else (ours, raw):
                batch = max(1, entities * min(batch_steps, len(steps)) // len(steps))
                cpu, start = _cpu(process), time.perf_counter()
                made = _raw(store.driver, entities, batch) if side is raw else _write(sink, steps)
                if number >= _WARM:
                    side.wall.append(time.perf_counter() - start)
                    side.cpu.append(_cpu(process) - cpu)
                    side.entities.append(made)
                if side is ours:
                    entities = made
            if number >= _WARM:
                paths, routes = _shared(store.driver)
                ours.new.append((paths - before[0], routes - before[1]))


def _growth(data: Path, rounds: list[list[StepTrace]]) -> float:
    """Bytes a step, once warm: the database's files after a clean stop, transaction logs left out."""
    sizes = []
    for part in (rounds[:_WARM], rounds[_WARM:]):
        with _server(data) as info, Neo4jSink(info.uri, info.user, info.password) as sink:
            sink.open_run(run_record("bench"))
            for steps in part:
                _write(sink, steps)
        folder = next(data.rglob("databases/neo4j"))
        sizes.append(sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()))
    return (sizes[1] - sizes[0]) / sum(map(len, rounds[_WARM:]))


def _write(sink: Neo4jSink, steps: list[StepTrace]) -> int:
    before = sink.created
    for step in steps:
        sink.write(step)
    sink.flush()
    return sink.created - before


def _raw(driver: Driver, nodes: int, batch: int) -> int:
    with driver.session(database="neo4j") as session:
        for start in range(0, nodes, batch):
            rows = [[n, n / 7, f"name-{n}", n % 2 == 0, n * 3] for n in range(start, min(nodes, start + batch))]
            session.execute_write(lambda tx, rows=rows: tx.run(_RAW, rows=rows).consume())
    return nodes


def _steps(round_number: int, arguments: argparse.Namespace) -> list[StepTrace]:
    first = round_number * arguments.steps
    return [
        step_trace(
            "bench", n, epoch=n // 100, vertices=arguments.vertices, parameters=arguments.parameters, novelty=_NOVELTY
        )
        for n in range(first, first + arguments.steps)
    ]


def _shared(driver: Driver) -> tuple[int, int]:
    """How many paths and routes there are."""
    query = "RETURN COUNT { MATCH (:Path) } AS paths, COUNT { MATCH (:Route) } AS routes"
    record = driver.execute_query(query, database_="neo4j").records[0]
    return int(record["paths"]), int(record["routes"])


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _print(raw: Side, ours: Side, rounds: list[list[StepTrace]], batch_steps: int, grown: float) -> None:
    steps = sum(map(len, rounds[_WARM:]))
    trace = rounds[0][0].traces[0]
    hops = [len(p.strongest.vertices) for s in rounds[-1] for p in s.traces[0].parameters if p.strongest]
    paths, routes = (sum(column) / steps for column in zip(*ours.new, strict=True))
    print(
        f"{steps} steps in {len(rounds) - _WARM} rounds after {_WARM} to warm up, "
        f"{min(batch_steps, len(rounds[0]))} steps a transaction; "
        f"{len(trace.graph.vertices)} vertices, {len(trace.graph.edges)} edges, {len(trace.parameters)} parameters, "
        f"{len(trace.components)} components, {len(trace.routes)} top routes, {statistics.mean(hops):.0f} hops a path, "
        f"{paths:.1f} new paths and {routes:.1f} new routes a step"
    )
    columns = (("entities/s", 12), ("per CPU s", 12), ("entities/step", 15), ("CPU ms/step", 13), ("steps/s", 9))
    print(" " * 22 + "".join(f"{name:>{width}}" for name, width in (*columns, ("KB/step", 9))))
    for name, side in (("raw CREATE, 5 props", raw), ("steps", ours)):
        entities, wall, cpu = sum(side.entities), sum(side.wall), sum(side.cpu)
        row = f"{name:22}{entities / wall:12,.0f}{entities / cpu:12,.0f}"
        if side is ours:
            row += f"{entities / steps:15.0f}{1000 * cpu / steps:13.1f}{steps / wall:9.1f}{grown / 1000:9.0f}"
        print(row)
    for what, target, ours_took, raw_took in (
        ("a server CPU second", " (target ≥ 1.0)", ours.cpu, raw.cpu),
        ("a second", "", ours.wall, raw.wall),
    ):
        ratios = sorted(
            (o / ot) / (r / rt) for o, ot, r, rt in zip(ours.entities, ours_took, raw.entities, raw_took, strict=True)
        )
        print(
            f"entities of steps / raw ones, {what}: {statistics.median(ratios):.2f}{target}, "
            f"from {ratios[0]:.2f} to {ratios[-1]:.2f} over the rounds"
        )


if __name__ == "__main__":
    main()
