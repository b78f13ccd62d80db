"""Metrics: off unless asked for, right in one process and over several, at an address and in a file."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gradtrace.service.settings import load_settings
from gradtrace.tracer.errors import SpecError

Samples = dict[tuple[str, tuple[str, ...]], float]

COUNT = """
import os, sys, urllib.request
from gradtrace.service import metrics
from gradtrace.service.settings import load_settings
from gradtrace.tracer.errors import BrokerUnreachableError

def queues():
    if "dead" in sys.argv:
        raise BrokerUnreachableError("nothing answers")
    return {("gradtrace.segments", "waiting"): 4, ("gradtrace.segments", "unacknowledged"): 1}
"""

ONE = (
    COUNT
    + """
end = metrics.start(load_settings(), queues=queues)
for number in range(5):
    metrics.count_step(number % 2 == 0)
metrics.count_stored(3, 0.2)
metrics.set_waiting(2)
metrics.count_retry("store")
metrics.count_segment("finished")
end()
"""
)

FORKED = (
    COUNT
    + """
import pathlib, signal
end = metrics.start(load_settings(), folder=pathlib.Path(sys.argv[1]), queues=queues)
metrics.count_segment("begun")
for child in range(2):
    pid = os.fork()
    if pid == 0:
        for _ in range(10):
            metrics.count_step(True)
        metrics.set_waiting(5)
        os.kill(os.getpid(), signal.SIGKILL)  # as a worker's child that is killed
    os.waitpid(pid, 0)
metrics.set_waiting(1)
end()
"""
)


def samples(text: str) -> Samples:
    """Each sample's name and label values → its value."""
    return {
        (sample.name, tuple(sample.labels[key] for key in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def counted(code: str, path: Path, *arguments: str) -> Samples:
    """What a process that runs `code` leaves in the metrics file."""
    environment = {**os.environ, "GRADTRACE_METRICS_FILE": str(path)}
    subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, *arguments], env=environment, check=True
    )
    return samples(path.read_text())


def test_one_process_counts(tmp_path: Path) -> None:
    found = counted(ONE, tmp_path / "gradtrace.prom")
    assert found[("gradtrace_steps_total", ("yes",))] == 3 and found[("gradtrace_steps_total", ("no",))] == 2
    assert found[("gradtrace_steps_stored_total", ())] == 3 and found[("gradtrace_writer_waiting_steps", ())] == 2
    assert found[("gradtrace_writer_lag_seconds_count", ())] == 1
    assert found[("gradtrace_writer_lag_seconds_bucket", ("0.25",))] == 1
    assert found[("gradtrace_writer_lag_seconds_bucket", ("0.1",))] == 0
    assert found[("gradtrace_retries_total", ("store",))] == found[("gradtrace_segments_total", ("finished",))] == 1
    assert found[("gradtrace_queue_messages", ("gradtrace.segments", "waiting"))] == 4


def test_forked_processes_count_together_and_the_dead_wait_for_nothing(tmp_path: Path) -> None:
    found = counted(FORKED, tmp_path / "gradtrace.prom", str(tmp_path / "together"))
    assert found[("gradtrace_steps_total", ("yes",))] == 20
    assert found[("gradtrace_segments_total", ("begun",))] == 1
    assert found[("gradtrace_writer_waiting_steps", ())] == 1
    assert found[("gradtrace_queue_messages", ("gradtrace.segments", "unacknowledged"))] == 1


def test_a_queue_that_does_not_answer_hides_nothing_else(tmp_path: Path) -> None:
    found = counted(ONE, tmp_path / "gradtrace.prom", "dead")
    assert ("gradtrace_steps_total", ("yes",)) in found
    assert not any(name == "gradtrace_queue_messages" for name, _ in found)


def test_they_are_served_on_this_machine_only() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = (
        COUNT
        + """
end = metrics.start(load_settings())
metrics.count_step(True)
print("ready", flush=True)
sys.stdin.read()
end()
"""
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "GRADTRACE_METRICS_PORT": str(port)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            assert samples(answer.read().decode())[("gradtrace_steps_total", ("yes",))] == 1
        import psutil

        listening = [c.laddr.ip for c in psutil.Process(process.pid).net_connections("tcp") if c.status == "LISTEN"]
        assert listening == ["127.0.0.1"]
    finally:
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_off_by_default_and_nothing_is_loaded() -> None:
    code = COUNT + (
        "metrics.start(load_settings({}))()\n"
        "metrics.count_step(True); metrics.count_stored(1, 0.1); metrics.set_waiting(1)\n"
        "metrics.count_retry('store'); metrics.count_segment('finished')\n"
        "print(metrics.wanted(load_settings({})), 'prometheus_client' in sys.modules)"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GRADTRACE_")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_a_file_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    environment = {**os.environ, "GRADTRACE_METRICS_FILE": str(tmp_path / "no-such-folder" / "x.prom")}
    done = subprocess.run([sys.executable, "-c", ONE], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "no-such-folder" in done.stderr


def test_settings_are_checked() -> None:
    with pytest.raises(SpecError, match="GRADTRACE_METRICS_PORT"):
        load_settings({"GRADTRACE_METRICS_PORT": "70000"})
