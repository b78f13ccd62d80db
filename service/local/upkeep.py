"""What `gradtrace up` and `down` do about processes: a supervisor for each data folder, and the processes that it keeps."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradtrace.service.local.process import Identity, adopt, find_by_argument
from gradtrace.service.local.supervisor import CHILD
from gradtrace.service.local.upkeep_home import SUPERVISOR, UpkeepHome
from gradtrace.tracer.errors import GradtraceError

STOP_WAIT = 60.0
_SUPERVISOR_WAIT = 10.0
_START_WAIT = 20.0
_KILL_WAIT = 10.0
_POLL = 0.05
_MODULE = "gradtrace.service.local.supervisor"
_FOLDERS = ("GRADTRACE_SETTINGS", "GRADTRACE_CACHE", "GRADTRACE_DATA")


class UpkeepError(GradtraceError):
    """A process that `up` keeps did not come up."""


@dataclass(frozen=True)
class Part:
    """One process of `up`.

    Attributes:
        name: what it is called.
        pid: its process; None if it does not run.
        log: what it prints.
    """

    name: str
    pid: int | None
    log: Path


def start(data: Path | None, servers: Sequence[str], commands: Mapping[str, Sequence[str]]) -> bool:
    """Start the supervisor of a data folder, unless it runs.

    It inherits the environment, and with it all settings; nothing secret comes on a command line.

    Args:
        data: the data folder; the default one if None.
        servers: which embedded servers to keep: "neo4j", "valkey".
        commands: name → arguments of `gradtrace`, of the processes to keep.

    Returns:
        False if it ran already.

    Raises:
        UpkeepError: it did not come up.
        StoreError: the folder cannot be written.
    """
    home = UpkeepHome.of(data)
    home.prepare()
    with home.locked():
        if home.process(SUPERVISOR) is not None:
            return False
        with home.turn_log(SUPERVISOR).open("ab") as out:
            child = subprocess.Popen(
                [
                    sys.executable,
                    "-P",  # never import from the folder that the user happens to be in
                    "-m",
                    _MODULE,
                    str(home.data),
                    *servers,
                    *(f"{name}:{shlex.join(arguments)}" for name, arguments in commands.items()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=home.path,
                env=_environment(home),
                start_new_session=True,  # a Ctrl-C in the terminal is not meant for it
            )
        process = adopt(child)
        deadline = time.monotonic() + _START_WAIT
        while home.process(SUPERVISOR) is None:
            if not process.alive() or time.monotonic() >= deadline:
                process.kill()
                raise failure(home, SUPERVISOR, "did not come up")
            time.sleep(_POLL)
        return True


def parts(data: Path | None, names: Sequence[str]) -> list[Part]:
    """The supervisor and the processes of these names, running or not."""
    home = UpkeepHome.of(data)
    found = []
    for name in (SUPERVISOR, *names):
        process = home.process(name)
        found.append(Part(name, None if process is None else process.pid, home.log_of(name)))
    return found


def stop(data: Path | None, names: Sequence[str], *, wait: float = STOP_WAIT) -> list[str]:
    """End the supervisor and all processes that it keeps: politely, and by force those that still run after `wait` s.

    Returns:
        Names of those that ran; with " (killed)" after those that had to be.
    """
    home = UpkeepHome.of(data)
    if not home.path.is_dir():
        return []
    with home.locked():
        ended = []
        supervisor = home.process(SUPERVISOR)
        if supervisor is not None:
            ended.append(SUPERVISOR)
            supervisor.terminate()
            if not supervisor.wait(_SUPERVISOR_WAIT):
                supervisor.kill()
        kept = {name: process for name in names if (process := home.process(name)) is not None}
        for process in kept.values():
            process.terminate()
        deadline = time.monotonic() + wait
        for name, process in kept.items():
            polite = process.wait(max(deadline - time.monotonic(), 0.0))
            if not polite:
                _kill_group(process)
            ended.append(name if polite else f"{name} (killed)")
        for stray in _strays(home):
            stray.kill()
        for name in (SUPERVISOR, *names):
            home.forget(name)
        return ended


def failure(home: UpkeepHome, name: str, what: str) -> UpkeepError:
    """The error for a process that does not do its part, with the end of its log."""
    return UpkeepError(
        f"The {name} {what}. The end of its log ({home.log_of(name)}):\n{home.last_lines(name)}\n"
        f"See to the reason and try `gradtrace up` again."
    )


def _kill_group(process: Identity) -> None:
    """Kill a process and those it started, which share its process group."""
    if process.alive():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait(_KILL_WAIT)


def _strays(home: UpkeepHome) -> list[Identity]:
    """Kept processes of this home that no file names: children of a worker that was killed, for one."""
    ours = {one.pid: one for one in find_by_argument(str(home.data))}
    kept = {one.pid for module in (CHILD, _MODULE) for one in find_by_argument(module)}
    return [one for pid, one in ours.items() if pid in kept]


def _environment(home: UpkeepHome) -> dict[str, str]:
    """Our own, with folders named so that they mean the same from anywhere."""
    environment = {**os.environ, "GRADTRACE_DATA": str(home.data)}
    for name in _FOLDERS:
        if environment.get(name):
            environment[name] = str(Path(environment[name]).expanduser().absolute())
    if environment.get("PYTHONPATH"):
        environment["PYTHONPATH"] = os.pathsep.join(
            str(Path(entry).absolute()) for entry in environment["PYTHONPATH"].split(os.pathsep) if entry
        )
    return environment
