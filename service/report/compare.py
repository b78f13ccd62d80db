"""Several runs side by side, with their spread over seeds."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence

from gradtrace.service.report.model import Comparison, RunReport, Spread
from gradtrace.service.report.words import EVERYWHERE, percent

MEASURES = ("share", "foreign_share", "win_rate")
SEED = "seed"
COMPONENTS = 24
"""Components that are compared at most."""


def compare(runs: Sequence[RunReport]) -> Comparison:
    """Group the runs by their settings, and work out means and standard deviations in each run's last epoch."""
    described = [{"workload": run.workload, **run.hyperparameters} for run in runs]
    names = list(dict.fromkeys(name for one in described for name in one))
    differing = tuple(n for n in names if len({one.get(n) for one in described}) > 1)
    labels = [
        ", ".join(f"{n}={one[n]}" for n in differing if n != SEED and n in one) or "all runs" for one in described
    ]
    settings = list(dict.fromkeys(labels))
    setting_of = tuple(settings.index(label) for label in labels)
    values: dict[tuple[str, str, int], list[tuple[int, float]]] = defaultdict(list)
    for number, run in enumerate(runs):
        last = max((row["epoch"] for row in run.by_epoch), default=None)
        for row in run.by_epoch:
            for measure in MEASURES:
                if row["epoch"] == last and row[measure] is not None:
                    values[measure, row["component"], setting_of[number]].append((number, row[measure]))
    components = _telling(values)[:COMPONENTS]
    kept = set(components)
    spreads = {key: spread(found) for key, found in sorted(values.items()) if key[1] in kept}
    return Comparison(
        settings=tuple(settings),
        setting_of=setting_of,
        differing=differing,
        components=tuple(components),
        spreads=spreads,
        headline=_headline(runs, settings, components, spreads),
    )


def spread(values: Sequence[tuple[int, float]]) -> Spread:
    """Mean and standard deviation of (run, value) pairs."""
    numbers = [value for _, value in values]
    deviation = statistics.stdev(numbers) if len(numbers) > 1 else None
    return Spread(tuple(values), statistics.fmean(numbers), deviation)


def _telling(values: dict[tuple[str, str, int], list[tuple[int, float]]]) -> list[str]:
    """Components in which the runs differ most in their shares first; those on every way or on none last."""
    shares: dict[str, list[float]] = defaultdict(list)
    for (measure, component, _), found in values.items():
        if measure == "share":
            shares[component] += [value for _, value in found]

    def order(component: str) -> tuple[bool, float, str]:
        found = shares[component]
        says_nothing = min(found) >= EVERYWHERE or max(found) == 0
        return says_nothing, -round(max(found) - min(found), 9), component

    return sorted(shares, key=order)


def _headline(
    runs: Sequence[RunReport],
    settings: Sequence[str],
    components: Sequence[str],
    spreads: dict[tuple[str, str, int], Spread],
) -> tuple[str, ...]:
    if not components:
        return ("None of the models has parts with names.",)
    top = components[0]
    found = {s: spreads["share", top, s] for s in range(len(settings)) if ("share", top, s) in spreads}
    if len(found) == 1:
        (only,) = found.values()
        values = [v for _, v in only.values]
        return (
            f"In their last epochs, {percent(only.mean)}{_plus_minus(only)} of the gradient mass came through {top}, "
            f"from {percent(min(values))} to {percent(max(values))} over {len(values)} runs.",
        )
    most, least = max(found, key=lambda s: found[s].mean), min(found, key=lambda s: found[s].mean)
    said = [
        f"The runs differ most in {top}: in the last epoch {percent(found[most].mean)}{_plus_minus(found[most])} of the "
        f"gradient mass came through it with {settings[most]}, and {percent(found[least].mean)}{_plus_minus(found[least])} "
        f"with {settings[least]}."
    ]
    one, other = found[most], found[least]
    if one.deviation is None or other.deviation is None:
        said.append("One of the two has a single run, so that nothing can be said of its spread over seeds.")
    else:
        apart = (
            one.mean - other.mean
            > 2 * (one.deviation**2 / len(one.values) + other.deviation**2 / len(other.values)) ** 0.5
        )
        said.append(
            "The difference is more than twice its standard error over the runs."
            if apart
            else "The difference is within twice its standard error over the runs."
        )
    return tuple(said)


def _plus_minus(found: Spread) -> str:
    return "" if found.deviation is None else f" ± {percent(found.deviation)}"
