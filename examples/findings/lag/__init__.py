"""Does an LSTM's carry take over from its gates as the lag grows?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..numbers import Runs, paired, spread
from ..plan import Arm, Plan
from ..question import Expectation, Question

LAGS = (2, 5, 10, 20)
COMMON = {"fillers": 32, "lr": 0.01, "forget_bias": 2}
SHUT = {**COMMON, "lag": 5, "forget_bias": -4}
PART = "recurrent.l0."
CARRY = PART + "carry"
EARLY = 3  # traced step, for a look at what comes before learning
GATES = tuple(PART + name for name in ("input_gate", "forget_gate", "output_gate"))

PLAN = Plan(
    workload="lstm",
    steps=321,
    every=16,
    components=(CARRY, *(PART + name for name in ("write", "hidden", "cell_gate")), *GATES),
    arms=(
        *(
            Arm(f"lag {lag}{name}", {**COMMON, "lag": lag}, blocked)
            for lag in LAGS
            for name, blocked in (("", ()), (", carry blocked", (CARRY,)), (", gates blocked", GATES))
        ),
        Arm("shut", SHUT),
        Arm("shut, carry blocked", SHUT, (CARRY,)),
    ),
    seeds=range(5),
)


def numbers(runs: Runs) -> dict[str, Any]:
    """What the text names."""
    lags = {}
    for lag in LAGS:
        arm = f"lag {lag}"
        plain = runs.held_out(arm, "accuracy")
        lags[lag] = {
            "accuracy": spread(plain),
            "win_first": runs.at(arm, CARRY, "win", 0),
            "win_last": runs.at(arm, CARRY, "win", -1),
            "win_mean": spread(runs.mean_over(arm, CARRY, "win")),
            "share_first": runs.at(arm, CARRY, "foreign", 0),
            "share_last": runs.at(arm, CARRY, "foreign", -1),
            "gates_first": _gates(runs, arm, 0),
            "gates_last": _gates(runs, arm, -1),
            "carry": _cost(runs, arm, "carry"),
            "gates": _cost(runs, arm, "gates"),
        }
    wins = {lag: [line[0] for line in runs.series(f"lag {lag}", CARRY, "win")] for lag in LAGS}
    means = {lag: runs.mean_over(f"lag {lag}", CARRY, "win") for lag in LAGS}
    shut = runs.held_out("shut", "accuracy")
    return {
        "lags": lags,
        "rise_first": paired(wins[LAGS[-1]], wins[LAGS[0]]),
        "rise_mean": paired(means[LAGS[-1]], means[LAGS[0]]),
        "shut": {
            "accuracy": spread(shut),
            "win_first": runs.at("shut", CARRY, "win", 0),
            "win_early": runs.at("shut", CARRY, "win", EARLY),
            "loss_early": spread(r["loss"][EARLY] for r in runs.of("shut")),
            "step_early": runs.steps("shut")[EARLY],
            "win_last": runs.at("shut", CARRY, "win", -1),
            "share_first": runs.at("shut", CARRY, "foreign", 0),
            "share_last": runs.at("shut", CARRY, "foreign", -1),
            "carry": _cost(runs, "shut", "carry"),
        },
    }


def _gates(runs: Runs, arm: str, where: int) -> Any:
    """Foreign share of the three gates that multiply, added up (a trace may cross several)."""
    lines = zip(*(runs.series(arm, gate, "foreign") for gate in GATES), strict=True)
    return spread(sum(line[where] or 0.0 for line in gates) for gates in lines)


def _cost(runs: Runs, arm: str, what: str) -> dict[str, Any]:
    held = runs.held_out(f"{arm}, {what} blocked", "accuracy")
    return {"accuracy": spread(held), "cost": runs.cost(arm, f"{arm}, {what} blocked")}


def expectations(runs: Runs) -> list[Expectation]:
    """What was expected after a pilot of one seed, before the runs of the results."""
    n = numbers(runs)
    lags, shortest, longest = n["lags"], LAGS[0], LAGS[-1]
    return [
        Expectation(
            "The carry wins more of its forks the longer the lag, before anything is learnt.",
            f"win rate at lag {longest} above that at lag {shortest}: {100 * n['rise_first'].mean:+.1f} ± "
            f"{100 * n['rise_first'].half:.1f} points",
            n["rise_first"].n > 1 and n["rise_first"].low > 0,
        ),
        Expectation(
            "And so over all of training.",
            f"{100 * n['rise_mean'].mean:+.1f} ± {100 * n['rise_mean'].half:.1f} points",
            n["rise_mean"].n > 1 and n["rise_mean"].low > 0,
        ),
        Expectation(
            "The carry wins most of its forks at every lag from the first step on: it need not take over.",
            "at first " + ", ".join(f"{100 * v['win_first'].mean:.0f} %" for v in lags.values()),
            all(v["win_first"].mean > 0.9 for v in lags.values()),
        ),
        Expectation(
            "Blocking the carry costs more the longer the lag.",
            "points of accuracy: " + ", ".join(f"{100 * v['carry']['cost'].mean:.0f}" for v in lags.values()),
            lags[shortest]["carry"]["cost"].high < lags[longest]["carry"]["cost"].low,
        ),
        Expectation(
            "Blocking the three gates costs less than blocking the carry, at the longest lag.",
            f"{100 * lags[longest]['gates']['cost'].mean:.0f} against {100 * lags[longest]['carry']['cost'].mean:.0f} points",
            lags[longest]["gates"]["cost"].high < lags[longest]["carry"]["cost"].low,
        ),
        Expectation(
            "Where the forget gates start shut, the carry wins few forks at first and most at the end.",
            f"{100 * n['shut']['win_first'].mean:.0f} % at first, {100 * n['shut']['win_last'].mean:.0f} % at the end",
            n["shut"]["win_first"].mean < 0.5 < n["shut"]["win_last"].mean,
        ),
    ]


def draw_course(runs: Runs, path: Path) -> None:
    """Loss, win rate and foreign share of the carry, by step and lag."""
    from ..drawing import COLORS, band, figure

    with figure(path, 1, 3, (9.0, 2.8)) as (loss, win, share):
        for arm, color in zip([*(f"lag {lag}" for lag in LAGS), "shut"], COLORS, strict=False):
            steps = runs.steps(arm)
            band(loss, steps, [r["loss"] for r in runs.of(arm)], color, arm)
            band(win, steps, runs.series(arm, CARRY, "win"), color, arm)
            band(share, steps, runs.series(arm, CARRY, "foreign"), color, arm)
        loss.set(title="Loss of the probe batch", ylabel="nats", xlabel="step")
        win.set(title="Win rate of the carry", xlabel="step", ylim=(0, 1.02))
        share.set(title="Foreign share of the carry", xlabel="step", ylim=(0, None))
        loss.legend(fontsize=7)


def draw_blocked(runs: Runs, path: Path) -> None:
    """Accuracy of every arm, one dot a seed."""
    from ..drawing import COLORS, dots, figure

    colors = {"": COLORS[0], "carry blocked": COLORS[1], "gates blocked": COLORS[3]}
    with figure(path, size=(8.0, 2.8)) as axes:
        for at, arm in enumerate(PLAN.arms):
            dots(axes, at, runs.held_out(arm.name, "accuracy"), colors[arm.name.partition(", ")[2]])
        axes.set_xticks(
            range(len(PLAN.arms)), [arm.name.replace(", ", "\n").replace(" b", "\nb") for arm in PLAN.arms], fontsize=7
        )
        axes.set(title="Accuracy on held-out sequences, one dot a seed", ylim=(0, 1.05))


QUESTION = Question("lag", PLAN, numbers, expectations, {"course.svg": draw_course, "blocked.svg": draw_blocked})
