"""`gradtrace run` without a database: what it prints, what it refuses, and Ctrl-C."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
from pathlib import Path

import pytest

from gradtrace.tracer.sinks import read_jsonl
from tests.service.cli import COMMAND, environment, gradtrace, ok, refused

QUICK = ("run", "digits-mlp", "--set", "hidden=8", "--set", "batch_size=256", "--every", "3")


def test_a_run_into_memory_ends_with_the_table() -> None:
    done = gradtrace(*QUICK, "--sink", "memory")
    text = ok(done)
    assert "Components that carried the dominant gradient path, by epoch" in text
    heading = next(line for line in text.splitlines() if "component" in line and "epoch" in line and "share" in line)
    assert heading.split() == ["epoch", "component", "share", "foreign_share", "win_rate"]
    assert "hidden.0" in text
    assert "held out 2.3" in text
    assert "Loaded 1,797 digits" in done.stderr
    assert "traced steps of run digits-mlp-" in done.stderr


def test_json_tells_all() -> None:
    answer = json.loads(ok(gradtrace(*QUICK, "--steps", "7", "--seed", "5", "--sink", "memory", "--format", "json")))
    assert (answer["status"], answer["steps"], answer["traced"], answer["stored"]) == ("FINISHED", 7, 3, 3)
    assert answer["workload"] == "digits-mlp"
    assert answer["after"]["loss"] < answer["before"]["loss"]
    components = {row["component"] for row in answer["components"]}
    assert {"hidden", "hidden.0", "head"} <= components


def test_csv_and_ndjson_hold_the_same_rows() -> None:
    arguments = (*QUICK, "--steps", "6", "--mode", "greedy", "--mode", "maxprod", "--sink", "memory", "--format")
    rows = [json.loads(line) for line in ok(gradtrace(*arguments, "ndjson")).splitlines()]
    table = list(csv.DictReader(ok(gradtrace(*arguments, "csv")).splitlines()))
    assert {r["mode"] for r in rows} == {"greedy", "maxprod"}
    assert [float(r["share"]) for r in rows] == [float(r["share"]) for r in table]
    assert list(rows[0]) == list(table[0])


def test_a_run_into_a_file_can_be_read_back(tmp_path: Path) -> None:
    done = gradtrace(*QUICK, "--steps", "7", "--batch", "both", "--sink", "jsonl:traces.jsonl", cwd=tmp_path)
    ok(done)
    recording = read_jsonl(tmp_path / "traces.jsonl")
    [(run, record)] = recording.runs.items()
    assert f"3 traced steps of run {run} are in traces.jsonl" in done.stderr
    assert record.workload == "digits-mlp"
    assert [s.step for s in recording.of(run)] == [0, 3, 6]
    assert recording.statuses[run] == ("FINISHED", None)
    assert {t.batch for s in recording.of(run) for t in s.traces} == {"training", "probe"}


def test_log_spacing() -> None:
    arguments = ("run", "digits-mlp", "--set", "hidden=4", "--steps", "40", "--every", "log", "--sink", "memory")
    assert json.loads(ok(gradtrace(*arguments, "--format", "json")))["traced"] == 16 + 8 + 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "hiden=3"], "Did you mean hidden? Parameters: batch_size, dropout, epochs, hidden, layers, lr"),
        (["--set", "hidden=wide"], "hidden='wide' is refused: Input should be a valid integer"),
        (["--set", "lr=-1"], "lr='-1' is refused: Input should be greater than 0"),
        (["--set", "hidden"], "'hidden' is not of the form name=value"),
        (["--set", "seed=1", "--seed", "2"], "seed is given twice: 1 and 2"),
        (["--epochs", "many"], "epochs='many' is refused"),
        (["--every", "0"], "'0' is neither a whole number above 0 nor \"log\""),
        (["--every", "often"], 'nor "log"'),
        (["--mode", "fast"], "'fast' is not one of 'greedy', 'maxprod'"),
        (["--batch", "all"], "'all' is not one of"),
        (["--sink", "sqlite:x"], "Say store, memory, or jsonl:PATH"),
        (["--sink", "jsonl:"], "Say store, memory, or jsonl:PATH"),
        (["--sink", "jsonl:no/such/folder/x.jsonl"], "Name one in a folder that exists"),
        (["--experiment", "../x"], "experiment: "),
        (["--watch", "head.wait", "--sink", "memory"], "no parameter 'head.wait' to watch. Did you mean head.weight"),
    ],
)
def test_wrong_arguments_are_refused_with_the_right_ones(arguments: list[str], words: str) -> None:
    assert words in refused(gradtrace("run", "digits-mlp", *arguments), 2)


def test_wrong_workload() -> None:
    said = refused(gradtrace("run", "digits-mpl", "--sink", "memory"), 2)
    assert "There is no workload 'digits-mpl'. Did you mean digits-mlp" in said
    assert "Workloads: char-lstm, digits-cnn, digits-mlp, " in said


def test_ctrl_c_ends_a_run_cleanly(tmp_path: Path) -> None:
    run = subprocess.Popen(
        [COMMAND, "run", "digits-mlp", "--epochs", "10000", "--every", "20", "--sink", "jsonl:traces.jsonl"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stderr is not None
    before = ""
    while "epoch 3/10000" not in before:  # by now, steps are stored
        line = run.stderr.readline()
        assert line, before
        before += line
    run.send_signal(signal.SIGINT)
    out, said = run.communicate(timeout=120)
    assert run.returncode == 130, said
    assert "Traceback" not in said
    recording = read_jsonl(tmp_path / "traces.jsonl")
    [name] = recording.runs
    steps = [s.step for s in recording.of(name)]
    assert recording.torn == 0
    assert recording.statuses[name][0] == "INTERRUPTED"
    assert len(steps) >= 6
    assert steps == list(range(0, 20 * len(steps), 20))
    assert f"{len(steps)} traced steps of run {name} are in traces.jsonl, whole." in said
    assert "Components that carried the dominant gradient path" in out


def test_a_run_that_dies_of_nan_exits_with_1() -> None:
    arguments = ("--set", "lr=10", "--set", "layers=60", "--set", "epochs=50", "--every", "1000000")
    done = gradtrace("run", "digits-mlp", *arguments, "--sink", "memory", "--non-finite", "stop", "--format", "json")
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["status"] == "FAILED"
    assert "The run failed: the loss became" in done.stderr
