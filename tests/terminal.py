"""Commands in a terminal: a pseudo-terminal takes their output, as a person's would."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def in_terminal(arguments: Sequence[str | Path], env: Mapping[str, str], cwd: Path | None = None) -> tuple[int, str]:
    """Run a command whose stdout and stderr are one terminal of 120 columns; its exit status, and what it wrote there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [str(a) for a in arguments],
        env={**env, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    written = bytearray()
    with contextlib.suppress(OSError):  # the terminal's end, once nobody holds it any more
        while part := os.read(ours, 65536):
            written += part
    os.close(ours)
    return process.wait(60), written.decode()
