"""How long each question of the library takes over many runs, and whether its plan reads more than it has to.

    python -m benchmarks.queries [--runs 100] [--steps 1000] [--data FOLDER]

Runs go through the product's own sink into a fresh embedded server: of each of five seeds some recorded steps, which the
runs repeat under their own ids, step numbers, epochs and losses, so that paths come back as in training; four settings of
`lr`, ten epochs a run. Every question is then asked with all its parameters given, once to warm up, and again a few
times; the table has the median, the least and the greatest, the time with its defaults looked up as well, and what PROFILE
says: accesses to the database, and every operator that reads all nodes or relationships of a kind. `--data` keeps the store
in a folder, and uses what is there; `--only` asks some questions alone.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from neo4j import Driver

from gradtrace.queries import Library, Question
from gradtrace.queries.plan import scans, walk
from gradtrace.service.local import ServerInfo, ensure_server, in_use, stop_server
from gradtrace.service.store.connect import open_store
from gradtrace.service.store.sink import Neo4jSink
from gradtrace.tracer.steptrace import StepTrace
from tests.synthetic import run_record, step_trace

_SEEDS, _RATES, _EPOCHS, _RECORDED = 5, (0.3, 0.1, 0.03, 0.01), 10, 250
_TARGET = 200  # ms


def main() -> None:
    """Write the store, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--steps", type=int, default=1000, help="traced steps a run")
    parser.add_argument("--vertices", type=int, default=60)
    parser.add_argument("--parameters", type=int, default=10)
    parser.add_argument(
        "--repeats", type=int, default=5, help="times that each question is asked, after one to warm up"
    )
    parser.add_argument("--data", type=Path, help="folder of the store; kept, and used again if it holds runs")
    parser.add_argument("--only", nargs="*", default=[], help="questions to ask; all if left out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gradtrace-bench-") as folder:
        data = arguments.data or Path(folder)
        info = ensure_server(data, progress=False)
        try:
            with in_use(info), open_store(info.uri, info.user, info.password) as store:
                _fill(info, store.driver, arguments)
                _measure(store.driver, arguments.repeats, arguments.only)
        finally:
            stop_server(data)


def _fill(info: ServerInfo, driver: Driver, arguments: argparse.Namespace) -> None:
    """Write the runs that the store lacks, and say what it holds."""
    recorded = [_recorded(seed, arguments) for seed in range(_SEEDS)]
    started, cpu, written = time.perf_counter(), time.process_time(), 0
    with closing(Neo4jSink(info.uri, info.user, info.password)) as sink:
        there = {row["run"] for row in Library(driver).run("runs", status="FINISHED", limit=10_000)}
        for number in range(arguments.runs):
            seed, rate = number % _SEEDS, _RATES[number // _SEEDS % len(_RATES)]
            name = f"run-{number:04}"
            if name in there:
                continue
            sink.open_run(run_record(name, experiment="bench", seed=seed, lr=rate, trial=number // 20))
            for n in range(arguments.steps):
                step = recorded[seed][(n * 7 + number) % _RECORDED]
                epoch = n * _EPOCHS // arguments.steps
                loss = (1 + rate * number) / (1 + n)
                traces = tuple(replace(t, loss=loss) for t in step.traces)
                sink.write(replace(step, run=name, step=n, epoch=epoch, loss=loss, traces=traces))
                written += 1
            sink.close_run(name, "FINISHED")
    took, own = time.perf_counter() - started, time.process_time() - cpu
    trace = recorded[0][0].traces[0]
    print(
        f"{arguments.runs} runs × {arguments.steps} traced steps in {_EPOCHS} epochs; {len(trace.graph.vertices)} "
        f"vertices, {len(trace.graph.edges)} edges, {len(trace.parameters)} parameters, {len(trace.components)} "
        f"components, {len(trace.routes)} routes a step; {written} steps written in {took:.0f} s ({own:.0f} s of CPU here)"
    )
    sizes = {(r["kind"], r["name"]): r["count"] for r in Library(driver).run("store-size")}
    print(
        f"{sum(n for (k, _), n in sizes.items() if k == 'node'):,} labels on nodes, {sizes['relationship', '*']:,} relationships"
    )


def _recorded(seed: int, arguments: argparse.Namespace) -> list[StepTrace]:
    return [
        step_trace(
            "recorded",
            n,
            seed=seed,
            vertices=arguments.vertices,
            parameters=arguments.parameters,
            top_routes=5,
            novelty=0.1,
        )
        for n in range(_RECORDED)
    ]


def _measure(driver: Driver, repeats: int, only: list[str]) -> None:
    library = Library(driver)
    print(
        f"{'question':26}{'rows':>7}{'median ms':>11}{'least':>8}{'most':>8}{'defaults':>10}{'db hits':>11}  full scans"
    )
    slow = []
    for question in library.questions():
        if only and question.name not in only:
            continue
        given = _needed(library, question)
        asked = library.resolve(question, given)
        times, rows = _times(library, question.name, asked, repeats)
        defaults, _ = _times(library, question.name, given, repeats)
        plan = _profiled(driver, question.cypher, asked)
        hits = sum(int(node["args"].get("DbHits", 0)) for _, node in walk(plan))
        median = statistics.median(times)
        if median > _TARGET:
            slow.append(question.name)
        print(
            f"{question.name:26}{rows:7}{median:11.1f}{min(times):8.1f}{max(times):8.1f}"
            f"{statistics.median(defaults):10.1f}{hits:11,}  {'; '.join(dict.fromkeys(scans(plan))) or '-'}",
            flush=True,
        )
    print(f"above {_TARGET} ms: {', '.join(slow) or 'none'}")


def _needed(library: Library, question: Question) -> dict[str, Any]:
    """Values for the parameters that a question cannot do without, from what the shell would offer."""
    given: dict[str, Any] = {}
    for parameter in question.parameters.values():
        if parameter.required:
            offered = library.complete(question.name, parameter.name, **given)
            given[parameter.name] = offered[len(offered) // 2] if offered else "bench"
    return given


def _times(library: Library, name: str, asked: Mapping[str, Any], repeats: int) -> tuple[list[float], int]:
    """Milliseconds of each asking but the first, and the number of rows."""
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        rows = len(library.run(name, **asked).rows)
        times.append(1000 * (time.perf_counter() - started))
    return times[1:], rows


def _profiled(driver: Driver, text: str, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    with driver.session(database="neo4j") as session:
        result = session.run("PROFILE " + text, dict(asked))  # type: ignore[arg-type]
        list(result)  # the server counts for those alone who read to the end
        profile = result.consume().profile
    assert profile is not None
    return profile


if __name__ == "__main__":
    main()
