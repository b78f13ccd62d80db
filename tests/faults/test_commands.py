"""`submit`, `worker`, `watch`, `cancel`, `resume` and `runs` as a person calls them."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gradtrace.service.jobs.sweep import grid, values_of
from gradtrace.tracer.errors import SpecError
from tests.faults.harness import ROOT, Site, Worker, gradtrace
from tests.terminal import in_terminal


def test_a_sweep_from_submission_to_the_list(site: Site) -> None:
    nothing = gradtrace(site, "runs", "--format", "json")
    assert json.loads(nothing.stdout) == []
    options = ["--every", "2", "--threads", "1", "--experiment", "rates", "--steps", "6"]
    with Worker(site):
        done = gradtrace(
            site, "submit", "fault-net", "--sweep", "lr=0.1,0.01", "--sweep", "seed=0..1", *options, "--wait",
            "--format", "csv",
        )  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [(r["lr"], r["seed"]) for r in rows] == [("0.1", "0"), ("0.1", "1"), ("0.01", "0"), ("0.01", "1")]
    assert len({r["run"] for r in rows}) == 4
    assert done.stderr.count(" FINISHED  (") == 4
    listed = json.loads(
        gradtrace(site, "runs", "--experiment", "rates", "--status", "finished", "--format", "json").stdout
    )
    assert {r["run"] for r in listed} == {r["run"] for r in rows}
    assert all("seed=" in "".join(r["parameters"]) for r in listed)
    assert json.loads(gradtrace(site, "runs", "--status", "queued", "--format", "json").stdout) == []
    watched = gradtrace(site, "watch", rows[0]["run"], "--format", "ndjson")
    [last] = map(json.loads, watched.stdout.splitlines())
    assert (last["status"], last["step"], last["steps"], last["attempts"]) == ("FINISHED", 6, 6, 0)
    assert last["loss"] > 0 and last["components"][0].startswith(("head", "first", "second"))
    told = gradtrace(site, "watch", rows[0]["run"]).stdout
    assert told.startswith("FINISHED  step 6/6  loss ")


def test_cancel_and_resume(site: Site) -> None:
    site.environment |= {"SEGMENT_STEPS": "1000", "CHECKPOINT_STEPS": "1000"}
    spec = site.spec(30, pause=0.2)
    other, weights = site.undisturbed(spec)
    waiting = site.submit(spec, queue=False).run
    assert f"{waiting} cancelled" in gradtrace(site, "cancel", waiting).stderr
    assert (site.look(waiting)["status"], site.look(waiting)["reason"]) == ("INTERRUPTED", "cancelled")
    with Worker(site):
        run = site.submit(spec).run
        site.wait(run, until=lambda r: (r.get("live_step") or 0) >= 2)
        assert "stopping at its next step" in gradtrace(site, "cancel", run).stderr
        found = site.wait(run)
        assert found["status"] == "INTERRUPTED"
        assert found["reason"] == f"cancelled after {found['position']} of 30 steps"
        assert 0 < found["position"] < 30
        assert f"{run} was INTERRUPTED already" in gradtrace(site, "cancel", run).stderr
        gradtrace(site, "watch", run, status=1)
        done = gradtrace(site, "resume", run, waiting, "--wait")
        assert done.stderr.count("FINISHED") == 2
        refused = gradtrace(site, "resume", run, status=1)
        assert "is finished; there is nothing to resume" in refused.stderr
    site.same(run, other, weights)
    site.same(waiting, other, weights)


def test_watching_a_run_that_goes_on(site: Site) -> None:
    """Rows come as the run goes: steps, steps a second, loss, and components once some were traced; a terminal has one line."""
    spec = site.spec(24, pause=0.4)
    with Worker(site):
        run = site.submit(spec).run
        command = [sys.executable, "-m", "gradtrace.service.cli", "watch", run]
        env = {**site.variables(), "NO_COLOR": "1"}
        told = subprocess.Popen(
            [*command, "--format", "ndjson"], env=env, cwd=site.folder, stdout=subprocess.PIPE, text=True
        )
        waiting = site.submit(site.spec(2)).run
        site.wait(run, until=lambda r: r["status"] == "RUNNING")
        looking = subprocess.Popen(
            [*command[:3], "status", "--format", "json"], env=env, cwd=site.folder, stdout=subprocess.PIPE, text=True
        )
        status, seen = in_terminal(command, env, site.folder)
        shown = json.loads(looking.communicate(timeout=60)[0])
        site.wait(waiting)
        rows = [json.loads(line) for line in told.communicate(timeout=60)[0].splitlines()]
    assert told.returncode == status == 0
    assert rows[-1]["status"] == "FINISHED" and rows[-1]["step"] == 24
    steps = [r["step"] for r in rows]
    assert steps == sorted(steps)
    assert [(r["name"], r["state"]) for r in shown if r["part"] == "run" and r["name"] == run] == [(run, "RUNNING")]
    assert any(r["part"] == "queue" and r["state"] == "waiting" and r["count"] >= 1 for r in shown), shown
    live = [r for r in rows if r["status"] == "RUNNING" and r["rate"] is not None]
    assert live, rows
    assert all(0 < r["rate"] <= 1 / 0.4 for r in live)  # each step of this workload pauses so long
    assert any(r["components"] for r in live)
    assert seen.count("\r\x1b[2K") == len(re.findall(r"(QUEUED|RUNNING|FINISHED)  step", seen)) > 1
    assert re.search(r"RUNNING  step \d+/24  loss [\d.]+  [\d.]+ steps/s", seen)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sweep", "lr"], "'lr' is not of the form name=value"),
        (["--sweep", "lr=0.1,,0.2"], "has an empty value"),
        (["--sweep", "seed=3..1"], "must run upwards"),
        (["--sweep", "seed=0..99999"], "over 10,000 values at most"),
        (
            ["--sweep", "seed=0..999", "--sweep", "lr=0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1,2"],
            "This grid has 11,000 runs",
        ),
        (["--sweep", "seed=1,1"], "names the value 1 twice"),
        (["--sweep", "seed=0..1", "--seed", "3"], "seed is both set and swept"),
        (["--sweep", "wight=1,2"], "fault-net has no parameter 'wight'"),
        (["--sweep", "lr=0.1,many"], "lr='many' is refused"),
        (["--experiment", "../x"], "experiment: "),
    ],
)
def test_a_wrong_submission_writes_nothing(site: Site, arguments: list[str], words: str) -> None:
    done = gradtrace(site, "submit", "fault-net", *arguments, status=2)
    assert words in done.stderr
    assert done.stdout == ""
    assert site.ask("MATCH (r:Run) RETURN r.id") == []


def test_unknown_runs_and_absent_servers(site: Site) -> None:
    for command in ("watch", "cancel", "resume"):
        assert "The store holds no run 'no-such'" in gradtrace(site, command, "no-such", status=1).stderr
    site.environment["REDIS_URI"] = "redis://127.0.0.1:1"
    done = gradtrace(site, "submit", "fault-net", status=3)
    assert "The queue at redis://127.0.0.1:1" in done.stderr
    assert "The queue at redis://127.0.0.1:1" in gradtrace(site, "worker", status=3).stderr
    assert site.ask("MATCH (r:Run) RETURN r.id") == []


def test_values_and_grids() -> None:
    assert values_of("-1..1, 5") == ["-1", "0", "1", "5"]
    runs = grid("digits-mlp", {"hidden": "8"}, [("seed", "0..1"), ("lr", "0.1,0.2")], every=2)
    assert [(swept, spec.parameters.seed, spec.parameters.lr) for swept, spec in runs] == [
        ({"seed": s, "lr": r}, int(s), float(r)) for s in ("0", "1") for r in ("0.1", "0.2")
    ]
    with pytest.raises(SpecError, match="seed is swept twice"):
        grid("digits-mlp", {}, [("seed", "0"), ("seed", "1")])


def test_the_worker_s_parent_and_the_help_never_import_torch(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "import gradtrace.service.jobs.worker, gradtrace.service.jobs.app, gradtrace.service.jobs.tasks\n"
        "import gradtrace.service.jobs.transport, gradtrace.service.jobs.work, gradtrace.service.jobs.reap\n"
        "import gradtrace.service.cli.submit, gradtrace.service.jobs.sweep\n"
        "assert 'torch' not in sys.modules and 'sklearn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=None, check=True, timeout=120)
    assert ROOT.is_dir()
