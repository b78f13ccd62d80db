"""Kill -9 in every phase of a run: it goes on, every step is there once, and all bits are those of an undisturbed run."""

from __future__ import annotations

from tests.faults.entry import PHASES
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
