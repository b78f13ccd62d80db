"""States (nested plain data with tensors in it) as JSON beside named tensors, and back without losing a bit.

JSON has neither tuples nor keys that are no text nor tensors; each of these becomes an object with one `$` key. Nothing
else is taken: a state that holds an object of a class is refused, so that reading never builds one.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from gradtrace.tracer.errors import CheckpointError


def encode(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Plain JSON data for `value`; its tensors go into `tensors`, under names that begin with `path`.

    Raises:
        CheckpointError: something is neither plain data nor a tensor nor an array.

    Example:
        >>> kept = {}
        >>> encode({"lr": 0.1, "betas": (0.9, 0.999), 3: torch.zeros(2)}, "o", kept)
        {'$map': [['lr', 0.1], ['betas', {'$tuple': [0.9, 0.999]}], [3, {'$tensor': 'o/3'}]]}
        >>> list(kept)
        ['o/3']
    """
    if value is None or isinstance(value, bool | str):
        return value
    if type(value) is int:
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, torch.Tensor):
        tensors[path] = value
        return {"$tensor": path}
    if isinstance(value, np.ndarray):
        tensors[path] = torch.from_numpy(value.copy())
        return {"$array": path}
    if isinstance(value, np.generic):
        return encode(value.item(), path, tensors)
    if isinstance(value, Mapping):
        if not all(isinstance(k, str | int) for k in value):
            raise CheckpointError(f"The state {path or 'of the workload'} has keys that are neither texts nor numbers.")
        return {"$map": [[k, encode(v, f"{path}/{k}" if path else str(k), tensors)] for k, v in value.items()]}
    if isinstance(value, tuple | list):
        made = [encode(v, f"{path}/{n}", tensors) for n, v in enumerate(value)]
        return {"$tuple": made} if isinstance(value, tuple) else made
    raise CheckpointError(
        f"The state {path!r} is a {type(value).__module__}.{type(value).__qualname__}; a checkpoint keeps tensors, arrays, "
        "numbers, texts, and mappings and lists of these."
    )


def decode(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """What `encode` was given.

    Raises:
        ValueError, KeyError: it is not what `encode` makes.
    """
    if isinstance(value, list):
        return [decode(v, tensors) for v in value]
    if not isinstance(value, dict):
        return value
    [(kind, inside)] = value.items()
    match kind:
        case "$map":
            return {k: decode(v, tensors) for k, v in inside}
        case "$tuple":
            return tuple(decode(v, tensors) for v in inside)
        case "$tensor":
            return tensors[inside]
        case "$array":
            return tensors[inside].numpy()
        case "$float":
            return float(inside)
    raise ValueError(f"{kind!r} is no kind of state")


def random_states() -> dict[str, Any]:
    """The global random states of Python, numpy and torch (with every CUDA device in use)."""
    return {
        "python": random.getstate(),
        "numpy": dict(np.random.get_state(legacy=False)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else [],
    }


def set_random_states(states: Mapping[str, Any]) -> None:
    """Put back what `random_states` gave.

    Raises:
        ValueError, TypeError, KeyError, RuntimeError: they are no random states.
    """
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])
