"""A grid of runs from values for some hyperparameters."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence

from gradtrace.service.spec import RunSpec, spec_from_text
from gradtrace.tracer.errors import SpecError

MOST_RUNS = 10_000
_RANGE = re.compile(r"(-?[0-9]{1,12})\.\.(-?[0-9]{1,12})")


def values_of(text: str) -> list[str]:
    """The values of one hyperparameter: separated by commas; `a..b` are all whole numbers from a to b.

    Raises:
        SpecError: a value is empty or named twice, or a range runs backwards or is too long.

    Example:
        >>> values_of("0.1,0.01"), values_of("0..3")
        (['0.1', '0.01'], ['0', '1', '2', '3'])
    """
    values: list[str] = []
    for part in text.split(","):
        part = part.strip()
        if match := _RANGE.fullmatch(part):
            first, last = int(match[1]), int(match[2])
            if not 0 <= last - first < MOST_RUNS:
                raise SpecError(f"The range {part} must run upwards, over {MOST_RUNS:,} values at most.")
            values += map(str, range(first, last + 1))
        elif part:
            values.append(part)
        else:
            raise SpecError(f"{text!r} has an empty value. Values look like 0.1,0.01 or 0..4.")
    twice = [v for n, v in enumerate(values) if v in values[:n]]
    if twice:
        raise SpecError(f"{text!r} names the value {twice[0]} twice.")
    return values


def grid(
    workload: str, given: Mapping[str, str], sweep: Sequence[tuple[str, str]], **options: object
) -> list[tuple[dict[str, str], RunSpec]]:
    """All combinations, the last swept parameter running fastest; each with its swept values and its spec.

    Args:
        workload: name of the workload.
        given: hyperparameters that are the same for all runs, as text.
        sweep: names and values (as `values_of` reads them) of those that vary.
        **options: other fields of the specs.

    Raises:
        SpecError: a name or a value is wrong, a parameter is both given and swept, or there are too many runs.
    """
    axes = [(name, values_of(text)) for name, text in sweep]
    names = [name for name, _ in axes]
    for name in names:
        if names.count(name) > 1:
            raise SpecError(f"{name} is swept twice; name all its values at once: --sweep {name}=a,b,c.")
        if name in given:
            raise SpecError(f"{name} is both set and swept.")
    count = math.prod(len(values) for _, values in axes)
    if count > MOST_RUNS:
        raise SpecError(f"This grid has {count:,} runs; {MOST_RUNS:,} at most can be submitted at once.")
    made = []
    for combination in itertools.product(*(values for _, values in axes)):
        swept = dict(zip(names, combination, strict=True))
        made.append((swept, spec_from_text(workload, {**given, **swept}, **options)))
    return made
