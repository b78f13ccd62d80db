"""How long the report of many runs takes to open in Chromium.

    python -m benchmarks.report [--runs 100] [--rounds 5]

Four synthetic runs of 400-vertex graphs go through the store; their reports are repeated under other names and settings until
there are as many as asked for. The page counts the milliseconds from the request to the moment at which everything is on the
screen (`data-ready`). The browser is new in each round.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from gradtrace.queries import Library
from gradtrace.service.local import ServerInfo, ensure_server, in_use, stop_server
from gradtrace.service.report import Report, gather, to_html
from gradtrace.service.report.compare import compare
from gradtrace.service.store.connect import open_store
from gradtrace.service.store.sink import Neo4jSink
from tests.synthetic import run_record, step_trace

SEEDS, STEPS, EPOCHS = 4, 40, 5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        print("No Chromium on this machine: nothing measured.")
        return
    with tempfile.TemporaryDirectory(prefix="gradtrace-bench-") as folder:
        page = Path(folder) / "report.html"
        started = time.process_time()
        page.write_text(to_html(_many(_stored(Path(folder)), arguments.runs)), encoding="utf-8")
        print(
            f"{arguments.runs} runs, {page.stat().st_size / 1e6:.2f} MB; written in {time.process_time() - started:.1f} CPU s"
        )
        opened = [_open(browser, page) for _ in range(arguments.rounds)]
    print(f"ms until all is on the screen: median {statistics.median(opened)}, from {min(opened)} to {max(opened)}")


def _stored(folder: Path) -> Report:
    info = ensure_server(folder)
    try:
        with in_use(info):
            return _gathered(info)
    finally:
        stop_server(folder)


def _gathered(info: ServerInfo) -> Report:
    names = [f"run-{seed}" for seed in range(SEEDS)]
    with closing(Neo4jSink(info.uri, info.user, info.password)) as sink:
        for seed, name in enumerate(names):
            sink.open_run(run_record(name, seed=seed))
            for step in range(STEPS):
                epoch = step * EPOCHS // STEPS
                sink.write(step_trace(name, step, epoch=epoch, seed=seed, vertices=400, parameters=60, novelty=0.1))
            sink.flush()
            sink.close_run(name, "FINISHED")
    with open_store(info.uri, info.user, info.password) as store:
        return gather(Library(store.driver), names)


def _many(report: Report, count: int) -> Report:
    """As many runs, five seeds a setting, with the numbers of the stored ones; of each as many steps as of so many runs."""
    from gradtrace.service.report.gather import MANY, POINTS_OF_MANY

    kept = POINTS_OF_MANY if count > MANY else STEPS
    made = []
    for n in range(count):
        run = report.runs[n % len(report.runs)]
        at = (
            [i * (len(run.steps) - 1) // (kept - 1) for i in range(kept)]
            if kept < len(run.steps)
            else range(len(run.steps))
        )
        made.append(
            replace(
                run,
                run=f"run-{n:03}",
                hyperparameters={**run.hyperparameters, "lr": f"{0.1 / (1 + n // 5):.4g}", "seed": str(n % 5)},
                steps=tuple(run.steps[i] for i in at),
                epochs=tuple(run.epochs[i] for i in at),
                losses=tuple(run.losses[i] for i in at),
                components=tuple(
                    replace(
                        c,
                        share=tuple(c.share[i] for i in at),
                        foreign_share=tuple(c.foreign_share[i] for i in at),
                        win_rate=tuple(c.win_rate[i] for i in at),
                    )
                    for c in run.components
                ),
                graph=replace(run.graph, shares=tuple(run.graph.shares[i] for i in at)),
                routes=replace(run.routes, at=tuple(run.routes.at[i] for i in at)),
            )
        )
    runs = tuple(made)
    return replace(report, runs=runs, comparison=compare(runs))


def _open(browser: str, page: Path) -> int:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=browser)
        tab = started.new_page()
        tab.goto(page.as_uri())
        tab.wait_for_selector("html[data-ready]", state="attached")
        ready = int(tab.evaluate("document.documentElement.dataset.ready"))
        started.close()
    return ready


if __name__ == "__main__":
    main()
