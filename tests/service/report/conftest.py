"""Reports on runs that went through the real sink and store, and a real browser to open them in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gradtrace.queries import Library
from gradtrace.service.report import Report, gather, to_html
from gradtrace.tracer.steptrace import StepTrace
from tests.queries.conftest import connected, emptied, store
from tests.queries.worlds import Run, renamed
from tests.synthetic import run_record, step_trace

if TYPE_CHECKING:
    from gradtrace.service.local import ServerInfo

CHROMIUM = "GRADTRACE_TEST_CHROMIUM"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HOSTILE = "<script>window.hit=1</script>\"'&läuf"
SECRET = "pl4nted-secret"


def _steps(run: str, count: int, **options: Any) -> tuple[StepTrace, ...]:
    return tuple(step_trace(run, 10 * s, epoch=s // (count // 2 or 1), **options) for s in range(count))


def _hostile(name: str) -> str:
    return name.replace("head", "<script>window.hit=2</script>").replace("rnn", "</script><img src=x onerror=hit=3>")


@cache
def runs() -> dict[str, Run]:
    """Every run that is reported on, by its id."""
    made = [
        Run(run_record("long"), _steps("long", 70)),
        *(
            Run(
                run_record(f"lr{lr}-seed{seed}", experiment="grid", lr=lr, seed=seed),
                _steps(f"lr{lr}-seed{seed}", 4, seed=seed, novelty=0.3),
            )
            for lr in (0.1, 0.01)
            for seed in (0, 1, 2)
        ),
        Run(
            run_record(HOSTILE, workload="<b>Wörk", data=f"s3://key:{SECRET}@bucket/x"),
            tuple(renamed(s, _hostile) for s in _steps(HOSTILE, 4)),
            "FAILED",
            f"<img src=x onerror=window.hit=4> {SECRET} at redis://:{SECRET}@queue/0",
        ),
        Run(run_record("one-step"), _steps("one-step", 1)),
        Run(run_record("probed", modes=("maxprod",)), _steps("probed", 3, modes=("maxprod",), batches=("probe",))),
        Run(run_record("no-steps"), (), "FAILED", "out of memory"),
    ]
    return {run.record.id: run for run in made}


@pytest.fixture(scope="package")
def library(neo4j_server: ServerInfo) -> Iterator[Library]:
    """The library over a store with `runs` and nothing else."""
    with connected(neo4j_server) as driver:
        emptied(driver)
        store(neo4j_server, runs())
        yield Library(driver)


@pytest.fixture(scope="package")
def reports(library: Library) -> dict[str, Report]:
    """One run of many steps; six runs of two settings; one with hostile names; one of a single step."""
    return {
        "long": gather(library, ["long"]),
        "grid": gather(library, experiment="grid"),
        "hostile": gather(library, [HOSTILE]),
        "one-step": gather(library, ["one-step"]),
    }


@dataclass
class Opened:
    """A page in the browser, and what it did that it should not."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser to test with. One that is named must be there; where none is, these tests are skipped."""
    named = os.environ.get(CHROMIUM)
    if named:
        assert Path(named).is_file(), f"{CHROMIUM} names {named}, which is no file"
        return named
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"NO CHROMIUM: reports were not opened in a browser. Install chromium or set {CHROMIUM}.")
    return found


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    """A browser for the tests of one file; what drives it has an event loop running until then, which others could not."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=chromium, args=["--disable-gpu"])
        yield started
        started.close()


Open = Callable[..., Any]


@pytest.fixture
def opened(browser: Any, reports: dict[str, Report], tmp_path: Path) -> Iterator[Open]:
    """Opens a report by its name: `with opened("long", width=360) as it: it.page...`; nothing else may be asked for."""

    @contextmanager
    def open_(name: str, *, width: int = 1280, **options: Any) -> Iterator[Opened]:
        file = tmp_path / f"{name}.html"
        file.write_text(to_html(reports[name]), encoding="utf-8")
        context = browser.new_context(viewport={"width": width, "height": 800}, **options)
        it = Opened(context.new_page())
        it.page.on("console", lambda message: it.said.append(message.text))
        it.page.on("pageerror", lambda error: it.said.append(str(error)))
        it.page.on("request", lambda request: it.asked.append(request.url))
        it.page.goto(file.as_uri())
        if options.get("java_script_enabled", True):
            it.page.wait_for_selector("html[data-ready]", state="attached", timeout=60_000)
        try:
            yield it
            assert it.said == [], "the console has to stay empty"
            assert [url for url in it.asked if not url.startswith("data:")] == [file.as_uri()]
        finally:
            context.close()

    yield open_
