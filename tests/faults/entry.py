"""`gradtrace worker` with eyes in it: notes in a file in which phase of a step it is, and dies where a plan says so.

    python -m tests.faults.entry worker ...

Nothing of what it does is changed: the wrapped functions are gradtrace's own. Files are named by environment variables:
`FAULT_PHASE` takes the phase of the training thread and that of the writing thread; `FAULT_PLAN` is a list of [phase, n]
in JSON: the n-th time that a process enters the phase, it kills itself with signal 9; `FAULT_DONE` takes a line for each
entry of the plan that was carried out, and the next process goes on with the one after it.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PHASES = ("forward", "backward", "tracing", "commit", "checkpoint", "between")
_WIDTH = 12
_counts: Counter[str] = Counter()
_lock = threading.Lock()
_stack: list[str] = []


def _plan() -> list[Any] | None:
    plan = json.loads(os.environ.get("FAULT_PLAN", "[]"))
    done = Path(os.environ["FAULT_DONE"])
    count = len(done.read_text("utf-8").splitlines()) if done.exists() else 0
    return plan[count] if count < len(plan) else None


def _die(phase: str) -> None:
    handle = os.open(os.environ["FAULT_DONE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(handle, f"{phase}\n".encode())
    os.fsync(handle)
    os.kill(os.getpid(), signal.SIGKILL)


def due(phase: str) -> bool:
    """Count that a phase is entered; whether this is where the plan says to die."""
    with _lock:
        _counts[phase] += 1
        plan = _plan()
        return plan is not None and plan[0] == phase and _counts[phase] >= plan[1]


@contextmanager
def phase(name: str, writing: bool = False) -> Iterator[None]:
    """Note the phase while the body runs."""
    before = _stack[-1] if _stack else "other"
    _note(name, writing)
    if not writing:
        _stack.append(name)
    try:
        yield
    finally:
        if not writing:
            _stack.pop()
        _note("other" if writing else before, writing)


def _note(name: str, writing: bool) -> None:
    path = os.environ.get("FAULT_PHASE")
    if path:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.pwrite(handle, name.ljust(_WIDTH).encode(), _WIDTH if writing else 0)
        os.close(handle)


def read_phases(path: Path) -> tuple[str, str]:
    """The phases of the training thread and of the writing thread."""
    text = path.read_text("utf-8") if path.exists() else ""
    return text[:_WIDTH].strip() or "other", text[_WIDTH:].strip() or "other"


def install() -> None:
    """Wrap the phases of a segment. Imports torch, hence only in a process of the pool."""
    from gradtrace.service import checkpoint, segments
    from gradtrace.service.store import jobs, writer
    from gradtrace.tracer import loop

    replace = setattr

    made = segments.Training.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        loss = self.instance.loss

        def forward(batch: Any) -> Any:
            with phase("forward"):
                value = loss(batch)
                if due("forward"):
                    _die("forward")
                return value

        object.__setattr__(self.instance, "loss", forward)

    replace(segments.Training, "__init__", init)

    backward = loop.Step.backward

    def stepped(self: Any, loss: Any, scaler: Any = None) -> None:
        with phase("backward"):
            if due("backward"):
                loss.register_hook(lambda gradient: _die("backward"))  # in the middle of the engine's work
            backward(self, loss, scaler)

    replace(loop.Step, "backward", stepped)

    def wrap(owner: Any, name: str, of: str, writing: bool = False, after: bool = False) -> None:
        inner: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(inner)
        def outer(*args: Any, **kwargs: Any) -> Any:
            with phase(of, writing):
                doomed = due(of)
                if doomed and not after:
                    _die(of)
                made = inner(*args, **kwargs)
                if doomed:
                    _die(of)
                return made

        replace(owner, name, outer)

    wrap(loop, "finish", "tracing", after=True)
    wrap(writer, "write_steps", "commit", writing=True, after=True)  # in the transaction, before it commits
    wrap(checkpoint, "_force", "checkpoint")  # the file is there under its other name, not renamed yet
    wrap(jobs.Jobs, "release", "between", after=True)  # the store says QUEUED, and no ticket is in the queue


def main() -> None:
    """Run the command line with the wrapped worker."""
    from gradtrace.service.jobs import work as module

    inner = module.work
    installed: list[int] = []

    def work(ticket: Any, office: Any, begun: float) -> str:
        if not installed:
            installed.append(1)
            install()
        time.sleep(float(os.environ.get("FAULT_SLOW", "0")))  # as where a busy machine imports torch
        with phase("other"):
            return inner(ticket, office, begun)

    replace = setattr
    replace(module, "work", work)
    from gradtrace.service.cli import main as command

    command(sys.argv[1:])


if __name__ == "__main__":
    main()
