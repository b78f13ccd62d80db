"""The memory and the JSONL sink: what they keep, and that it comes back exactly."""

from __future__ import annotations

import json
import logging
import math
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import pytest

from gradtrace.tracer.errors import SinkClosedError, SinkError
from gradtrace.tracer.sinks import JsonlSink, MemorySink, Sink, read_jsonl
from gradtrace.tracer.sinks.protocol import TakesHeldOut, note_held_out
from gradtrace.tracer.steptrace import BatchTrace, StepTrace
from tests.same import same
from tests.synthetic import run_record, step_trace
from tests.synthetic_graph import make_graph
from tests.valid_steps import check

BOTH = {"modes": ("greedy", "maxprod"), "batches": ("training", "probe")}


@pytest.mark.parametrize("vertices,parameters,structure", [(40, 6, 0), (5, 1, 0), (90, 12, 3)])
def test_synthetic_steps_are_valid(vertices: int, parameters: int, structure: int) -> None:
    for step in range(8):
        check(step_trace("r", step, vertices=vertices, parameters=parameters, structure=structure, **BOTH))
    first, other = step_trace("r", 0, **BOTH), step_trace("s", 5, seed=3, **BOTH)
    assert first.traces[0].graph is other.traces[0].graph
    assert not same(first.traces[0], other.traces[0])
    assert same(first, step_trace("r", 0, **BOTH))


def test_check_finds_a_wrong_step() -> None:
    step = step_trace("r", 0)
    step.traces[0].traffic[int(step.traces[0].traffic.argmax())] += 1
    with pytest.raises(AssertionError):
        check(step)


@pytest.fixture(params=["memory", "jsonl"])
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Sink:
    return MemorySink() if request.param == "memory" else JsonlSink(tmp_path / "steps.jsonl")


def test_the_first_step_wins_and_closing_refuses(sink: Sink) -> None:
    assert isinstance(sink, Sink)
    sink.open_run(run_record("r"))
    sink.open_run(run_record("r", lr=9.0))
    sink.write(step_trace("r", 0))
    sink.write(step_trace("r", 0, seed=1))
    assert sink.flush() == 1
    with pytest.raises(ValueError, match="FINISHED, INTERRUPTED, FAILED"):
        sink.close_run("r", "RUNNING")
    sink.close_run("r", "FAILED", "loss was NaN")
    held = read_jsonl(sink.path) if isinstance(sink, JsonlSink) else sink
    assert not isinstance(held, Sink) or isinstance(held, MemorySink)
    assert held.runs == {"r": run_record("r")}
    assert held.statuses == {"r": ("FAILED", "loss was NaN")}
    assert same(held.steps[("r", 0)], step_trace("r", 0))
    sink.close()
    sink.close()
    with pytest.raises(SinkClosedError):
        sink.write(step_trace("r", 1))
    with pytest.raises(SinkClosedError):
        sink.open_run(run_record("s"))


def test_jsonl_round_trip_is_exact(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "läufe 1.jsonl"
    record = run_record("r/ü \n", lr=math.inf, momentum=math.nan, beta=-0.0, one=1.0, n=1, name="ß", flag=True, no=None)
    sums = ("entropy", "abs-sum")
    steps = [step_trace("r/ü \n", n, watched=("embed.p0",), spreads=sums, scalars=True, **BOTH) for n in (0, 3, 6, 13)]
    with JsonlSink(path) as sink:
        sink.open_run(record)
        for step in steps:
            sink.write(step)
    back = read_jsonl(path)
    assert back.torn == 0
    assert list(back.runs) == ["r/ü \n"]
    for name, value in record.parameters.items():
        assert same(back.runs["r/ü \n"].parameters[name], value), name
    assert same(tuple(back.of("r/ü \n")), tuple(steps))
    lines = [json.loads(line, parse_constant=pytest.fail) for line in path.read_text("utf-8").splitlines()]
    assert [line["type"] for line in lines] == ["run", "graph", "graph", "step", "step", "step", "step"]


def test_jsonl_keeps_held_out_measures(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    for loss in (0.5, 0.25):  # a run that went on: the later measure counts
        with JsonlSink(path) as sink:
            assert isinstance(sink, TakesHeldOut)
            sink.open_run(run_record("r"))
            note_held_out(sink, "r", {"loss": loss, "of nothing": math.nan, "most": -math.inf})
    assert same(read_jsonl(path).held_out, {"r": {"loss": 0.25, "of nothing": math.nan, "most": -math.inf}})
    [json.loads(line, parse_constant=pytest.fail) for line in path.read_text("utf-8").splitlines()]


def test_jsonl_goes_on_after_a_torn_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "steps.jsonl"
    with JsonlSink(path) as sink:
        sink.write(step_trace("r", 0))
        sink.write(step_trace("r", 1))
    whole = path.read_bytes()
    cut = len(whole) - 700
    path.write_bytes(whole[:cut])
    start = whole.rindex(b"\n", 0, len(whole) - 1) + 1
    with caplog.at_level(logging.WARNING):
        recording = read_jsonl(path)
    assert list(recording.steps) == [("r", 0)] and recording.torn == cut - start
    assert "torn" in caplog.text
    with JsonlSink(path) as sink:
        assert sink.set_aside is not None and sink.set_aside.read_bytes() == whole[start:cut]
        sink.write(step_trace("r", 0, seed=5))
        sink.write(step_trace("r", 1))
        assert sink.flush() == 2
    assert path.read_bytes() == whole


@pytest.mark.parametrize("cut", [1, 2])
def test_jsonl_line_without_its_end_is_torn(tmp_path: Path, cut: int) -> None:
    """Even a line that lacks nothing but its line end may be half of a longer one."""
    path = tmp_path / "steps.jsonl"
    with JsonlSink(path) as sink:
        sink.write(step_trace("r", 0))
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    with JsonlSink(path) as sink:
        assert sink.flush() == 0
        sink.write(step_trace("r", 0))
    assert path.read_bytes() == whole


def test_jsonl_survives_kill_in_mid_write(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    code = (
        "import sys\n"
        "from gradtrace.tracer.sinks import JsonlSink\n"
        "from tests.synthetic import step_trace\n"
        "sink = JsonlSink(sys.argv[1])\n"
        "for n in range(10**6):\n"
        "    sink.write(step_trace('r', n))\n"
        "    print(sink.flush(), flush=True)\n"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, cwd=root) as process:
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(5)][-1]
        process.kill()
        acknowledged = max([acknowledged, *(int(line) for line in process.stdout if line.endswith(b"\n"))])
    with JsonlSink(path) as sink:
        assert sink.flush() >= acknowledged
    held = read_jsonl(path)
    assert held.torn == 0
    assert [key[1] for key in held.steps] == list(range(len(held.steps)))
    for n, step in enumerate(held.of("r")):
        assert same(step, step_trace("r", n))


@pytest.mark.parametrize(
    "damage,message",
    [
        (lambda text: "{nonsense\n" + text, "Line 1 .* is no JSON"),
        (lambda text: "[1]\n" + text, "Line 1 .* no record"),
        (lambda text: '{"type":"cake"}\n' + text, "unknown record type 'cake'"),
        (lambda text: '{"typ":"run"}\n' + text, "no record of a JsonlSink"),
        (lambda text: text.split("\n", 1)[1], "of which there is no record before it"),
        (lambda text: text.replace('"folded":false', '"folded":true'), "was changed"),
    ],
)
def test_jsonl_damage_is_reported(tmp_path: Path, damage: object, message: str) -> None:
    path = tmp_path / "steps.jsonl"
    with JsonlSink(path) as sink:
        sink.write(step_trace("r", 0))
    assert callable(damage)
    path.write_text(damage(path.read_text("utf-8")), "utf-8")
    with pytest.raises(SinkError, match=message):
        read_jsonl(path)


def test_same_tells_differences() -> None:
    trace = step_trace("r", 0).traces[0]
    values = {f.name: getattr(trace, f.name) for f in fields(BatchTrace)}
    assert same(trace, BatchTrace(**values))
    for name in ("flow", "peak", "mass"):
        assert not same(trace, BatchTrace(**(values | {name: values[name] + 1e-9})))
    assert not same(trace, BatchTrace(**(values | {"graph": make_graph(41)})))
    step: StepTrace = step_trace("r", 0)
    assert not same(step, step_trace("r", 1))


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Let the system refuse writes beyond a size, as a full disk would."""
    old, before = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, before)


def test_a_full_disk_leaves_whole_steps_and_is_told(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    steps = [step_trace("r", n) for n in range(12)]
    with JsonlSink(path) as sink:
        sink.open_run(run_record("r"))
        sink.write(steps[0])
        room = 3 * path.stat().st_size
        with (
            files_no_larger_than(room),
            pytest.raises(SinkError, match=r"steps\.jsonl: File too large\. It holds ") as told,
        ):
            for step in steps[1:]:
                sink.write(step)
        kept = list(read_jsonl(path).steps)
        assert f"It holds {len(kept)} whole steps. Free some space" in str(told.value)
        assert 1 <= len(kept) < len(steps)
        assert read_jsonl(path).torn == 0 and path.stat().st_size <= room
        for step in steps:  # there is room again: everything can be sent once more
            sink.write(step)
    found = read_jsonl(path)
    assert list(found.steps) == [("r", n) for n in range(12)]
    assert all(same(found.steps[("r", n)], steps[n]) for n in range(12))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (Path("/dev/null"), tmp_path):
        with pytest.raises(SinkError, match="is no regular file"):
            JsonlSink(path)
