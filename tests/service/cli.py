"""The command `gradtrace` as a person calls it: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

COMMAND = Path(sys.executable).with_name("gradtrace")
SETTING = "GRADTRACE_"


def environment(**more: str) -> dict[str, str]:
    """This process' environment without gradtrace's settings, with two threads at most, and with `more`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(SETTING)}
    return {**kept, "OMP_NUM_THREADS": "2", "PYTHONWARNINGS": "error", "NO_COLOR": "1", **more}


def gradtrace(
    *arguments: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run `gradtrace ARGUMENTS` to its end; stdout and stderr are texts."""
    return subprocess.run(
        [COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=environment() if env is None else env,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def ok(done: subprocess.CompletedProcess[str]) -> str:
    """The stdout of a command that must have succeeded."""
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def refused(done: subprocess.CompletedProcess[str], status: int) -> str:
    """The stderr of a command that must have failed with `status`, with nothing on stdout and no traceback."""
    assert done.returncode == status, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


def completions(line: Sequence[str], env: dict[str, str] | None = None) -> list[str]:
    """What bash is offered after the words of `line`, the last of which may be unfinished."""
    done = subprocess.run(
        [COMMAND],
        env={
            **(environment() if env is None else env),
            "_GRADTRACE_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(line),
            "COMP_CWORD": str(len(line) - 1),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return [item.partition(",")[2] for item in done.stdout.splitlines() if item]
