"""Kill -9 in every phase of a run: it goes on, every step is there once, and all bits are those of an undisturbed run."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable

import psutil
import pytest

from tests.faults.entry import PHASES, read_phases
from tests.faults.harness import Site, Worker

PLAN = [("forward", 6), ("backward", 5), ("tracing", 4), ("commit", 2), ("checkpoint", 3), ("between", 1)]


def test_killed_in_every_phase(site: Site) -> None:
    spec = site.spec(30, seed=5)
    other, weights = site.undisturbed(spec)
    with Worker(site, plan=PLAN, MAX_ATTEMPTS="8"):
        ticket = site.submit(spec)
        found = site.wait(ticket.run)
    assert (found["status"], found.get("reason"), found["position"]) == ("FINISHED", None, 30)
    kills = (site.folder / "kills").read_text("utf-8").split()
    assert kills == [phase for phase, _ in PLAN] and set(kills) == set(PHASES)
    assert site.steps(ticket.run) == list(range(0, 30, 2))
    site.same(ticket.run, other, weights)


@pytest.mark.full
def test_a_killed_worker_leaves_nothing_behind_and_another_goes_on(site: Site) -> None:
    spec = site.spec(24, pause=0.05)
    other, weights = site.undisturbed(spec)
    with Worker(site, name="first").ready() as first:
        run = site.submit(spec).run
        site.wait(run, until=lambda r: r["position"] >= 4)
        first.kill()
        assert site.look(run)["status"] in ("RUNNING", "QUEUED")
    with Worker(site, name="second"):
        assert site.wait(run)["status"] == "FINISHED"
    site.same(run, other, weights)
    assert len(list((site.checkpoints / run).iterdir())) == 1


@pytest.mark.full
@pytest.mark.timeout(3000)
def test_thirty_random_kills(site: Site, record_property: Callable[[str, object], None]) -> None:
    """-9 of the process that trains, -9 of the whole worker, SIGTERM and SIGINT, at random moments over a sweep of runs."""
    chance = random.Random(20261124)
    specs = [site.spec(100, seed=seed, pause=0.02) for seed in range(6)]
    wanted = [site.undisturbed(spec) for spec in specs]
    site.environment |= {"MAX_ATTEMPTS": "40", "SEGMENT_STEPS": "40", "CHECKPOINT_STEPS": "5"}
    runs = [site.submit(spec).run for spec in specs]
    phases: Counter[str] = Counter()
    kinds = ["child", "worker", "SIGTERM", "SIGINT"] * 8
    chance.shuffle(kinds)
    kinds = kinds[:30]
    worker = Worker(site)
    try:
        for kind in kinds:
            training = in_training(site, runs)
            if training is None:
                runs.append(site.submit(specs[len(runs) % len(specs)]).run)  # so that there is something to kill
                wanted.append(wanted[(len(runs) - 1) % len(specs)])
                training = in_training(site, runs, patience=60)
                assert training is not None
            time.sleep(chance.uniform(0, 4))  # the first traced step of a process takes a second or so
            training_phase, writing_phase = read_phases(site.folder / "phase")
            phases[writing_phase if writing_phase != "other" else training_phase] += 1
            (site.folder / "phase").unlink(missing_ok=True)  # it is the dead process' last word
            if kind == "child":
                with contextlib.suppress(ProcessLookupError):  # it may have put the run back a moment ago
                    os.kill(training, signal.SIGKILL)
            elif kind == "worker":
                worker.kill()
                worker = Worker(site)
            else:
                os.kill(worker.process.pid, getattr(signal, kind))
                assert worker.process.wait(90) == 0
                worker = Worker(site)
        for run in runs:
            found = site.wait(run, seconds=300)
            assert (found["status"], found.get("reason")) == ("FINISHED", None)
    finally:
        worker.__exit__()
    record_property("measured", f"30 kills ({dict(Counter(kinds))}) over {len(runs)} runs fell in: {dict(phases)}")
    for run, (other, weights) in zip(runs, wanted, strict=True):
        assert site.steps(run) == list(range(0, 100, 2))
        site.same(run, other, weights)


def in_training(site: Site, runs: list[str], patience: float = 30) -> int | None:
    """The process that trains one of the runs and has begun with it; None if none does so for a while."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        rows = site.ask(
            "MATCH (r:Run {status: 'RUNNING'}) WHERE r.id IN $runs AND r.holder IS NOT NULL RETURN r.holder AS holder",
            runs=runs,
        )
        for row in rows:
            pid = int(json.loads(row["holder"])["pid"])
            if psutil.pid_exists(pid) and read_phases(site.folder / "phase")[0] != "other":
                return pid
        time.sleep(0.02)
    return None
