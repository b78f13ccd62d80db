"""The supervisor on its own: processes that end at once, that cannot be found, and that do not come up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradtrace.service.local import upkeep
from gradtrace.service.local.process import Identity, identify
from gradtrace.service.local.supervisor import CHILD
from gradtrace.service.local.upkeep import UpkeepError, failure, parts, start, stop
from gradtrace.service.local.upkeep_home import SUPERVISOR, UpkeepHome
from tests.service.local.support import until


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A data folder; whatever still runs there is stopped at the end."""
    yield tmp_path
    stop(tmp_path, ["brief"], wait=1)


def test_what_ends_at_once_is_started_again_at_growing_intervals(data: Path) -> None:
    assert start(data, [], {"brief": ["--version"]}) is True
    assert start(data, [], {"brief": ["--version"]}) is False
    home = UpkeepHome.of(data)
    assert until(lambda: home.log_of("brief").exists() and home.log_of("brief").read_text().count("gradtrace 0.") >= 2)
    log = home.log_of(SUPERVISOR).read_text()
    assert "started again in 2 s" in log and "started again in 0 s" not in log
    assert "gradtrace 0." in str(failure(home, "brief", "ended"))
    assert stop(data, ["brief"]) == [SUPERVISOR]
    assert [part.pid for part in parts(data, ["brief"])] == [None, None]


def test_a_child_of_nobody_is_ended_too(data: Path) -> None:
    home = UpkeepHome.of(data)
    home.prepare()
    hanging = subprocess.Popen(  # as a child whose supervisor died; reading stdin keeps it
        [sys.executable, "-c", "import sys; sys.stdin.read()", CHILD, str(home.data), "brief"], stdin=subprocess.PIPE
    )
    assert until(lambda: bool(upkeep._strays(home)), 10)
    assert stop(data, ["brief"]) == []
    assert hanging.wait(10) == -signal.SIGKILL
    hanging.communicate()


def test_one_that_does_not_end_is_killed_with_its_group(data: Path) -> None:
    home = UpkeepHome.of(data)
    home.prepare()
    code = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "os.fork()\n"
        "os.write(1, b'deaf ')\n"
        "time.sleep(600)\n"
    )
    deaf = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    assert deaf.stdout is not None
    assert [deaf.stdout.read(5) for _ in range(2)] == [b"deaf "] * 2
    process = identify(deaf.pid)
    assert process is not None
    home.note("brief", process)
    assert stop(data, ["brief"], wait=0.2) == ["brief (killed)"]
    assert deaf.stdout.read() == b"", "its child holds the pipe no more"
    deaf.communicate()


def test_a_supervisor_that_does_not_come_up_is_told_with_its_log(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "_MODULE", "gradtrace.service.local.no_such_module")
    with pytest.raises(UpkeepError, match=r"(?s)supervisor did not come up.*supervisor\.log.*no_such_module"):
        start(data, [], {})


@pytest.mark.parametrize("text", ["", "\0", "[]", "{}", '{"pid": -1, "birth": "x"}', '{"pid": "x", "birth": "y"}'])
def test_a_process_file_without_sense_counts_as_none(data: Path, text: str) -> None:
    home = UpkeepHome.of(data)
    home.prepare()
    home.process_file("brief").write_text(text)
    assert home.process("brief") is None
    home.note("brief", Identity(os.getpid(), "of one that had this number before"))
    assert home.process("brief") is None


def test_long_logs_are_put_aside(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradtrace.service.local.upkeep_home._LONG_LOG", 10)
    home = UpkeepHome.of(data)
    home.prepare()
    home.log_of("brief").write_text("longer than ten")
    assert not home.turn_log("brief").exists()
    assert (home.logs / "brief.log.1").read_text() == "longer than ten"
