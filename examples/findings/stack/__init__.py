"""When does a stack RNN start to learn through its stack, and does blocking that path stop it?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..numbers import Runs, first, spread
from ..plan import Arm, Plan
from ..question import Expectation, Question

LONG = {"min_length": 4, "max_length": 8, "hidden": 24, "lr": 0.01}
SHORT = {**LONG, "min_length": 1, "max_length": 4, "examples": 240, "held_out": 64}
POP, READ = "stack.pop", "stack.read"
BLOCKED = {
    "read": ("stack.read",),
    "pop": ("stack.pop",),
    "keep": ("stack.keep",),
    "action": ("stack.action",),
}
LOSS = 0.5  # nats a symbol; guessing among four symbols costs about 1.4
FLOOR = 1e-5  # of the drawing; below it is as good as nothing
TRICKLE = 0.01  # of all mass, from parameters outside the stack

PLAN = Plan(
    workload="stack-rnn",
    steps=481,
    every=16,
    components=(POP, READ, "stack.push", "stack.keep", "stack.action"),
    arms=(
        Arm("long", LONG, more=range(5, 10)),
        *(Arm(f"long, {name} blocked", LONG, names) for name, names in BLOCKED.items()),
        Arm("short", SHORT),
        Arm("short, read blocked", SHORT, BLOCKED["read"]),
    ),
    seeds=range(5),
)


def starts(runs: Runs, arm: str) -> list[tuple[int | None, int | None]]:
    """(step from which on the stack's popped cells carry a trickle, step from which on the loss is low), of each seed."""
    steps = runs.steps(arm)
    return [
        (
            first(steps, record["traces"]["greedy"][POP]["foreign"], lambda v: v >= TRICKLE),
            first(steps, record["loss"], lambda v: v < LOSS),
        )
        for record in runs.of(arm)
    ]


def numbers(runs: Runs) -> dict[str, Any]:
    """What the text names."""
    long = starts(runs, "long")
    both = [(pop, loss) for pop, loss in long if pop is not None and loss is not None]
    shares = {
        name: {
            "first": runs.at("long", name, "foreign", 0),
            "last": runs.at("long", name, "foreign", -1),
            "most": spread(max(v for v in line if v is not None) for line in runs.series("long", name, "foreign")),
        }
        for name in PLAN.components
    }
    plain = {arm: runs.held_out(arm, "accuracy") for arm in ("long", "short")}
    blocked = {}
    for arm in PLAN.arms:
        if arm.blocked:
            kind, _, what = arm.name.partition(", ")
            held = runs.held_out(arm.name, "accuracy")
            blocked[f"{kind}_{what.split()[0]}"] = {"accuracy": spread(held), "cost": runs.cost(kind, arm.name)}
    pops = runs.series("long", POP, "foreign")
    highest = [max(v or 0.0 for v in line) for line in pops]
    before = [
        max((v or 0.0) for v in line[: runs.steps("long").index(pop)]) if pop else None
        for line, (pop, _) in zip(pops, long, strict=True)
    ]
    return {
        "learnt": sum(a > 0.9 for a in plain["long"]),
        "seeds": len(plain["long"]),
        "pop_starts": spread(pop for pop, _ in long),
        "loss_falls": spread(loss for _, loss in long),
        "lead": spread(loss - pop for pop, loss in both),
        "leads": sum(pop < loss for pop, loss in both),
        "together": len(both),
        "before": spread(before),
        "accuracy": {arm: spread(held) for arm, held in plain.items()},
        "shares": shares,
        "short_pop": runs.at("short", POP, "foreign", -1),
        "short_most": spread(max(v for v in line if v is not None) for line in runs.series("short", POP, "foreign")),
        "blocked": blocked,
        "above": [most for most, a in zip(highest, plain["long"], strict=True) if a > 0.9],
        "starts": [
            {"seed": r["seed"], "carry": pop, "low": loss, "accuracy": r["held_out"]["accuracy"]}
            for r, (pop, loss) in zip(runs.of("long"), long, strict=True)
        ],
    }


def expectations(runs: Runs) -> list[Expectation]:
    """What was expected after a pilot of one seed, before the runs of the results."""
    n = numbers(runs)
    lead, blocked, shares = n["lead"], n["blocked"], n["shares"]
    costs = {name: blocked[f"long_{name}"]["cost"].mean for name in BLOCKED}
    carried = {name: shares[f"stack.{name}"]["last"].mean for name in BLOCKED}
    short, long = blocked["short_read"]["cost"], blocked["long_read"]["cost"]
    return [
        Expectation(
            "What is popped carries nothing before learning, and more than 5 % of all mass at some time of it.",
            f"{100 * shares[POP]['first'].mean:.1f} % at first; of the seeds that learn, the one with least has "
            f"{100 * min(n['above'], default=0.0):.0f} % at its highest",
            shares[POP]["first"].high < 0.01 and min(n["above"], default=0.0) > 0.05,
        ),
        Expectation(
            "The pops carry before the loss falls: the traces foretell it.",
            f"{lead.mean:.0f} ± {lead.half:.0f} steps before it; before it in {n['leads']} of {n['together']} seeds",
            lead.n > 1 and lead.low > 0,
        ),
        Expectation(
            "With the stack's read blocked, no seed learns.",
            f"best accuracy {100 * max(runs.held_out('long, read blocked', 'accuracy')):.0f} %",
            max(runs.held_out("long, read blocked", "accuracy")) < 0.9,
        ),
        Expectation(
            "Of the stack's parts, that which carries most at the end is that which costs most to block.",
            f"carries most: {max(carried, key=lambda k: carried[k])}; costs most: {max(costs, key=lambda k: costs[k])}",
            max(carried, key=lambda k: carried[k]) == max(costs, key=lambda k: costs[k]),
        ),
        Expectation(
            "What hardly any trace crosses can be blocked at no cost: `stack.keep`, the control.",
            f"it carries {100 * shares['stack.keep']['most'].mean:.1f} % at most, and costs {100 * costs['keep']:.0f} points",
            blocked["long_keep"]["cost"].low < 0.05,
        ),
        Expectation(
            "Short words need the stack less: blocking its read costs less there.",
            f"{100 * short.mean:.0f} points against {100 * long.mean:.0f}",
            short.n > 1 and short.high < long.low,
        ),
    ]


def draw_course(runs: Runs, path: Path) -> None:
    """Loss and foreign share of the pops by step, and the latter by the steps before and after the loss falls."""
    from ..drawing import figure

    steps = runs.steps("long")
    with figure(path, 1, 3, (9.0, 2.8)) as (loss, pop, aligned):
        for number, (record, (_, fall)) in enumerate(zip(runs.of("long"), starts(runs, "long"), strict=True)):
            color = f"C{number % 10}"
            share = [max(v or 0.0, FLOOR) for v in record["traces"]["greedy"][POP]["foreign"]]
            loss.plot(steps, record["loss"], color=color, linewidth=1.1, label=f"seed {record['seed']}")
            pop.plot(steps, share, color=color, linewidth=1.1)
            if fall is not None:
                aligned.plot([step - fall for step in steps], share, color=color, linewidth=1.1)
        loss.axhline(LOSS, color="#999999", linewidth=0.7, linestyle=":")
        aligned.axvline(0, color="#999999", linewidth=0.7, linestyle=":")
        for axes in (pop, aligned):
            axes.axhline(TRICKLE, color="#999999", linewidth=0.7, linestyle=":")
            axes.set(yscale="log", ylim=(FLOOR, 1.0))
        loss.set(title="Loss of the probe batch", ylabel="nats a symbol", xlabel="step")
        pop.set(title="Foreign share of stack.pop", xlabel="step")
        aligned.set(title="... by steps since the loss fell", xlabel="steps")
        loss.legend(fontsize=6, ncols=2)


def draw_blocked(runs: Runs, path: Path) -> None:
    """Accuracy of every arm, one dot a seed."""
    from ..drawing import COLORS, dots, figure

    with figure(path, size=(8.0, 2.8)) as axes:
        for at, arm in enumerate(PLAN.arms):
            dots(axes, at, runs.held_out(arm.name, "accuracy"), COLORS[1 if arm.blocked else 0])
        axes.set_xticks(range(len(PLAN.arms)), [arm.name.replace(", ", ",\n") for arm in PLAN.arms], fontsize=7)
        axes.set(title="Accuracy on held-out words, one dot a seed", ylim=(0, 1.05))


QUESTION = Question("stack", PLAN, numbers, expectations, {"course.svg": draw_course, "blocked.svg": draw_blocked})
