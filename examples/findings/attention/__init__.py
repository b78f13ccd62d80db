"""Which of queries, keys and values carries attention's gradient, and does it shift while it learns?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..numbers import Runs, paired, spread
from ..plan import Arm, Plan
from ..question import Expectation, Question

PLACES = {
    "encoder": "encoder.layers.0.self_attention",
    "decoder": "decoder.layers.0.self_attention",
    "cross": "decoder.layers.0.cross_attention",
}
CROSS = PLACES["cross"]
PARTS = ("queries", "keys", "values")
MODES = ("greedy", "maxprod")
SETTINGS = {"length": 6}
NEAR = 12  # optimizer steps between two things that count as happening together

PLAN = Plan(
    workload="transformer",
    steps=129,
    every=4,
    components=tuple(f"{place}.{part}" for place in PLACES.values() for part in PARTS),
    arms=(
        Arm("plain", SETTINGS, (), MODES),
        *(Arm(f"{part} blocked", SETTINGS, (f"{CROSS}.{part}",)) for part in PARTS),
        Arm("queries and keys blocked", SETTINGS, (f"{CROSS}.queries", f"{CROSS}.keys")),
    ),
    seeds=range(6),
)


def mean_losses(runs: Runs, arm: str) -> list[float]:
    """Mean loss of the probe batch over all traced steps: how slowly a model learnt, of each seed."""
    return [sum(r["loss"]) / len(r["loss"]) for r in runs.of(arm)]


def peaks(runs: Runs, mode: str) -> list[tuple[float, int]]:
    """The highest win rate of the cross-attention's keys, and the step at which it is reached, of each seed."""
    steps = runs.steps("plain")
    lines = [[v or 0.0 for v in line] for line in runs.series("plain", f"{CROSS}.keys", "win", mode)]
    return [(max(line), steps[line.index(max(line))]) for line in lines]


def steepest(runs: Runs) -> list[float]:
    """The middle of the two traced steps between which the loss of the probe batch falls most, of each seed."""
    steps = runs.steps("plain")
    found = []
    for record in runs.of("plain"):
        falls = [a - b for a, b in zip(record["loss"], record["loss"][1:], strict=False)]
        at = falls.index(max(falls))
        found.append((steps[at] + steps[at + 1]) / 2)
    return found


def _at(runs: Runs, mode: str, where: int) -> dict[str, Any]:
    """Win rates and foreign shares at one traced step, by attention and part."""
    return {
        place: {
            part: {
                "win": runs.at("plain", f"{path}.{part}", "win", where, mode),
                "foreign": runs.at("plain", f"{path}.{part}", "foreign", where, mode),
            }
            for part in PARTS
        }
        for place, path in PLACES.items()
    }


def numbers(runs: Runs) -> dict[str, Any]:
    """What the text names."""
    modes = {}
    for mode in MODES:
        modes[mode] = {
            "first": _at(runs, mode, 0),
            "last": _at(runs, mode, -1),
            "peak": spread(height for height, _ in peaks(runs, mode)),
            "peak_step": spread(step for _, step in peaks(runs, mode)),
            "majority": sum(height > 0.5 for height, _ in peaks(runs, mode)),
            "mean": {part: spread(runs.mean_over("plain", f"{CROSS}.{part}", "foreign", mode)) for part in PARTS},
        }
    falls = steepest(runs)
    gaps = [step - fall for (_, step), fall in zip(peaks(runs, "greedy"), falls, strict=True)]
    plain = mean_losses(runs, "plain")
    blocked = {}
    for arm in PLAN.arms[1:]:
        held = runs.held_out(arm.name, "accuracy")
        blocked[arm.name.removesuffix(" blocked").replace(" ", "_")] = {
            "accuracy": spread(held),
            "cost": runs.cost("plain", arm.name),
            "slower": paired(mean_losses(runs, arm.name), plain),
        }
    return {
        "seeds": len(plain),
        "accuracy": spread(runs.held_out("plain", "accuracy")),
        "mean_loss": spread(plain),
        "modes": modes,
        "falls": spread(falls),
        "gap": spread(gaps),
        "near": sum(abs(gap) <= NEAR for gap in gaps),
        "blocked": blocked,
    }


def expectations(runs: Runs) -> list[Expectation]:
    """What was expected after a pilot of one other seed, before the runs of the results."""
    n = numbers(runs)
    greedy, maxprod, blocked = n["modes"]["greedy"], n["modes"]["maxprod"], n["blocked"]
    costs = {part: blocked[part]["slower"].mean for part in PARTS}
    dearest, second = sorted(costs, key=lambda part: -costs[part])[:2]
    margin = paired(mean_losses(runs, f"{dearest} blocked"), mean_losses(runs, f"{second} blocked"))
    said = {mode: max(PARTS, key=lambda part: n["modes"][mode]["mean"][part].mean) for mode in MODES}
    ends = [greedy[where]["cross"]["values"]["win"] for where in ("first", "last")]
    return [
        Expectation(
            "Before learning and after it, greedy traces that leave the encoder go by the values, not the keys.",
            " and ".join(f"{100 * s.mean:.0f} ± {100 * s.half:.0f} %" for s in ends) + " of the forks",
            all(s.low > 0.8 for s in ends),
        ),
        Expectation(
            "In between there is a time at which they go by the keys.",
            f"the keys win most forks at some time in {greedy['majority']} of {n['seeds']} seeds, "
            f"{100 * greedy['peak'].mean:.0f} ± {100 * greedy['peak'].half:.0f} % at their best",
            greedy["majority"] == n["seeds"],
        ),
        Expectation(
            f"That time is when the loss falls fastest, give or take {NEAR} steps.",
            f"so in {n['near']} of {n['seeds']} seeds; the keys' best comes {n['gap'].mean:+.0f} ± {n['gap'].half:.0f} "
            "steps after the steepest fall",
            n["near"] == n["seeds"],
        ),
        Expectation(
            "Maxprod traces show nothing of it.",
            f"at their best the keys win {100 * maxprod['peak'].mean:.0f} ± {100 * maxprod['peak'].half:.0f} % of their forks",
            maxprod["majority"] == 0,
        ),
        Expectation(
            "In maxprod the keys carry most, as Du et al. (2023) found in another model.",
            f"{said['maxprod']} carry most, in the mean over training",
            said["maxprod"] == "keys",
        ),
        Expectation(
            "The part through which greedy traces go most, over training, is the one that slows learning most when blocked.",
            f"most: {said['greedy']}; slowest: {dearest}, by {margin.mean:.2f} ± {margin.half:.2f} nats before the next",
            said["greedy"] == dearest and margin.low > 0,
        ),
        Expectation(
            "Queries or keys alone can be done without: with either blocked every seed still learns.",
            "worst accuracy "
            + ", ".join(f"{100 * min(runs.held_out(f'{p} blocked', 'accuracy')):.1f} % ({p})" for p in PARTS[:2]),
            all(min(runs.held_out(f"{part} blocked", "accuracy")) > 0.9 for part in PARTS[:2]),
        ),
    ]


def draw_course(runs: Runs, path: Path) -> None:
    """The loss of every arm, and the keys' and values' win rates in cross-attention by mode."""
    from ..drawing import COLORS, band, figure

    steps = runs.steps("plain")
    with figure(path, 1, 3, (9.0, 2.8)) as (loss, *modes):
        for arm, color in zip(PLAN.arms, COLORS, strict=False):
            band(loss, steps, [r["loss"] for r in runs.of(arm.name)], color, arm.name)
        for mode, axes in zip(MODES, modes, strict=True):
            for part, color in (("keys", COLORS[2]), ("values", COLORS[3])):
                band(axes, steps, runs.series("plain", f"{CROSS}.{part}", "win", mode), color, part)
            axes.set(title=f"Win rate in cross-attention, {mode}", xlabel="step", ylim=(-0.02, 1.02))
        loss.set(title="Loss of the probe batch", ylabel="nats a symbol", xlabel="step")
        loss.legend(fontsize=7)
        modes[0].legend(fontsize=7)


def draw_seeds(runs: Runs, path: Path) -> None:
    """Each seed by itself: loss, and the win rate of the keys."""
    from ..drawing import COLORS, figure

    steps = runs.steps("plain")
    with figure(path, 1, 2, (8.0, 2.8)) as (loss, keys):
        for record, color in zip(runs.of("plain"), COLORS, strict=False):
            loss.plot(steps, record["loss"], color=color, linewidth=1.2, label=f"seed {record['seed']}")
            line = record["traces"]["greedy"][f"{CROSS}.keys"]["win"]
            keys.plot(steps, [float("nan") if v is None else v for v in line], color=color, linewidth=1.2)
        loss.set(title="Loss of the probe batch", ylabel="nats a symbol", xlabel="step")
        keys.set(title="Win rate of the keys, greedy", xlabel="step", ylim=(-0.02, 1.02))
        loss.legend(fontsize=7)


QUESTION = Question("attention", PLAN, numbers, expectations, {"course.svg": draw_course, "seeds.svg": draw_seeds})
