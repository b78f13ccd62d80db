"""How the kernels are compiled, and when what is kept of it on the disk still holds.

entry    called from Python
inner    called from other kernels only: without the wrapper that Python would call it by, which takes time to compile
inlined  the same, and part of whatever calls it
sums     an inner one whose sums may be taken in any order
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numba as nb
from numba.core.caching import IndexDataCacheFile

_INNER: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def _compiled(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    if function is None:
        return partial(_compiled, **options)
    dispatcher = nb.njit(cache=True, nogil=True, boundscheck=False, **options)(function)
    _stamp(dispatcher)
    return dispatcher


def _stamp(dispatcher: Any) -> None:
    """Let what is kept of a kernel hold as long as no file of this folder changes.

    Numba looks at the file of the kernel alone. But the code of those that it calls is part of it, so that after an upgrade old
    code would run inside new. Where a version of numba keeps its cache in another way, it goes on as it would by itself.
    """
    kept: Any = getattr(dispatcher, "_cache", None)
    base = getattr(getattr(kept, "_impl", None), "filename_base", None)
    if base is None or not hasattr(kept, "_cache_file"):
        return
    kept._cache_file = IndexDataCacheFile(kept._cache_path, base, _sources())


@cache
def _sources() -> str:
    """Digest of all files of this folder."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


entry: Callable[..., Any] = _compiled
inner: Callable[..., Any] = partial(_compiled, **_INNER)
inlined: Callable[..., Any] = partial(_compiled, forceinline=True, **_INNER)
sums: Callable[..., Any] = partial(_compiled, fastmath={"reassoc", "nsz"}, **_INNER)
