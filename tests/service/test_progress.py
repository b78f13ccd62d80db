"""What `gradtrace run` shows while it trains: a moving bar in a terminal, lines elsewhere."""

from __future__ import annotations

import re

from tests.service.cli import COMMAND, environment, gradtrace, ok
from tests.terminal import in_terminal

RUN = ("run", "digits-mlp", "--set", "hidden=8", "--set", "batch_size=256", "--epochs", "3", "--sink", "memory")


def test_a_terminal_is_shown_a_bar() -> None:
    env = environment()
    del env["NO_COLOR"]
    status, seen = in_terminal([COMMAND, *RUN], env)
    assert status == 0, seen
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)
    states = re.findall(r"epoch (\d)/3 .*? (\d+)/18 +loss ([\d.]+) +traced (\d+)", plain)
    assert states, plain
    epochs, steps, losses, traced = ([float(s[n]) for s in states] for n in range(4))
    assert steps == sorted(steps) and steps[-1] == 18
    assert epochs == sorted(epochs) and epochs[-1] == 3
    assert traced == sorted(traced) and traced[-1] == 2
    assert all(0 < loss < 3 for loss in losses)
    assert "\x1b[2K" in seen  # the bar is drawn over itself
    assert "epoch 3/3  step 18/18" not in plain  # and no lines besides


def test_elsewhere_it_is_a_line_an_epoch() -> None:
    done = gradtrace(*RUN)
    ok(done)
    lines = re.findall(r"^epoch (\d)/3  step (\d+)/18  loss [\d.]+  traced (\d+)$", done.stderr, re.MULTILINE)
    assert lines == [("1", "6", "1"), ("2", "12", "2"), ("3", "18", "2")]
    assert "\x1b" not in done.stderr
