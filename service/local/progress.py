"""Progress of a long wait, on stderr: a bar on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

_PLAIN_STEP = 0.25
"""Where there is no terminal, a line is printed for every such part of the whole."""


def megabytes(size: int) -> str:
    """`megabytes(114_949_988) == "115 MB"`; smaller sizes keep one digit behind the point."""
    value = size / 1e6
    return f"{value:.0f} MB" if value >= 10 else f"{value:.1f} MB"


class Progress:
    """Bytes and files that have arrived, told by several threads.

    Args:
        title: what is going on, a few words.
        size: expected bytes.
        files: expected number of files.
        shown: whether anything is printed at all.
    """

    def __init__(self, title: str, size: int, files: int, *, shown: bool = True) -> None:
        self.title = title
        self.size = size
        self.files = files
        self.shown = shown
        self._received = 0
        self._done = 0
        self._next_line = _PLAIN_STEP
        self._lock = threading.Lock()
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None

    @staticmethod
    def line(text: str) -> None:
        """Print one line on stderr."""
        print(text, file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        if not self.shown:
            return self
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=self.size)
        else:
            self.line(f"{self.title}: {self.files} files, {megabytes(self.size)}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def receive(self, count: int) -> None:
        """Tell that so many bytes have arrived; a negative number takes back those of a failed attempt."""
        with self._lock:
            self._received += count
            if self._bar is not None and self._task is not None:
                self._bar.update(self._task, completed=self._received)
            elif self.shown and self._received >= self._next_line * self.size and self._next_line < 1:
                self.line(f"  {megabytes(self._received)} of {megabytes(self.size)}")
                while self._next_line * self.size <= self._received:
                    self._next_line += _PLAIN_STEP

    def receiver(self) -> tuple[Callable[[int], None], Callable[[], None]]:
        """One file's way to tell its bytes, and a way to take all of them back."""
        total = 0

        def receive(count: int) -> None:
            nonlocal total
            total += count
            self.receive(count)

        def take_back() -> None:
            nonlocal total
            self.receive(-total)
            total = 0

        return receive, take_back
