"""gradtrace.tracer: which path carries the gradient that trains each parameter.

>>> from gradtrace.tracer import trace
>>> t = trace(lambda: loss_fn(model(x), y), model)
>>> t.components()
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradtrace.tracer.blocking import blocked as blocked
    from gradtrace.tracer.components import component as component
    from gradtrace.tracer.components import tap as tap
    from gradtrace.tracer.loop import Tracer as Tracer
    from gradtrace.tracer.record import trace as trace
    from gradtrace.tracer.recording import traceable_kernels as traceable_kernels
    from gradtrace.tracer.result import Hop as Hop
    from gradtrace.tracer.result import Path as Path
    from gradtrace.tracer.result import Trace as Trace
    from gradtrace.tracer.rules.declared import declare as declare
    from gradtrace.tracer.scalargraph import ScalarGraph as ScalarGraph

__all__ = [
    "Hop",
    "Path",
    "ScalarGraph",
    "Trace",
    "Tracer",
    "blocked",
    "component",
    "declare",
    "tap",
    "trace",
    "traceable_kernels",
]

# Name → module. Loaded on first use: who only catches errors or reads stored steps must not wait seconds for torch.
_HOMES = {
    "blocked": "blocking",
    "component": "components",
    "tap": "components",
    "Tracer": "loop",
    "trace": "record",
    "traceable_kernels": "recording",
    "Hop": "result",
    "Path": "result",
    "Trace": "result",
    "ScalarGraph": "scalargraph",
    "declare": "rules.declared",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
