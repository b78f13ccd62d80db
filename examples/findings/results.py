"""The results of a finding as a file of numbers, and the comparison of two of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .numbers import Record, Runs, Spread

FILE = "results.json"


def write(folder: Path, about: Mapping[str, Any], records: Sequence[Record]) -> None:
    """Write `results.json`, one line a run."""
    lines = ",\n".join("  " + json.dumps(record, separators=(",", ":")) for record in records)
    text = f'{{"about": {json.dumps(dict(about))},\n "runs": [\n{lines}\n]}}\n'
    (folder / FILE).write_text(text, encoding="utf-8")


def read(folder: Path) -> tuple[dict[str, Any], list[Record]]:
    """What `write` wrote: (about, records)."""
    held = json.loads((folder / FILE).read_text(encoding="utf-8"))
    return held["about"], held["runs"]


def differences(old: Sequence[Record], new: Sequence[Record]) -> list[str]:
    """Runs that are not the same in every digit, each in a few words."""
    a, b = ({(r["arm"], r["seed"]): r for r in records} for records in (old, new))
    found = [f"{arm}, seed {seed}: only in one of them" for arm, seed in sorted(a.keys() ^ b.keys())]
    for key in sorted(a.keys() & b.keys()):
        if a[key] != b[key]:
            parts = [name for name in a[key] if a[key][name] != b[key].get(name)]
            found.append(f"{key[0]}, seed {key[1]}: other {', '.join(parts)}")
    return found


def outside(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Numbers of the text that do not agree: the two 95 % intervals of a mean lie apart, by more than a hundredth.

    Args:
        old: what the text says (`numbers` of a question).
        new: what was found now.
    """
    found = []
    for name, before in _flat(old):
        after = dict(_flat(new)).get(name)
        if isinstance(before, Spread) and isinstance(after, Spread):
            if not _agree(before, after):
                found.append(f"{name}: {before:.3f} in the text, {after:.3f} now")
        elif isinstance(before, int | float) and before != after:
            found.append(f"{name}: {before} in the text, {after} now")
    return found


def _agree(a: Spread, b: Spread) -> bool:
    if a.n == 0 or b.n == 0:
        return a.n == b.n
    room = sum(s.half for s in (a, b) if math.isfinite(s.half))
    return abs(a.mean - b.mean) <= room + 0.01


def _flat(held: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Leaves of nested mappings, with dotted names."""
    found = []
    for name, value in held.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{before}{name}.")
        else:
            found.append((f"{before}{name}", value))
    return found


def runs_of(records: Sequence[Record]) -> Runs:
    """The records, by arm."""
    return Runs(records)
