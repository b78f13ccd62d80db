"""Workloads of other packages: installed entry points of the group `gradtrace.workloads`, and modules on the allow-list.

A name that somebody sends never decides what is imported. An entry point is imported only when its very name is asked for,
and is there because the worker's operator installed its package; a module of the allow-list, because the operator put it
into the setting `workload_modules`. What they give is checked before it is used.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Container, Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from gradtrace.service.workloads.declared import Workload, import_problem
from gradtrace.service.workloads.parameters import WorkloadParameters
from gradtrace.tracer.errors import SpecError

GROUP = "gradtrace.workloads"
ATTRIBUTE = "WORKLOADS"
"""What a module on the allow-list must have: a `Workload`, or several in a list or tuple."""

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_SCALARS = (str, int, float, bool, type(None))


def installed() -> dict[str, tuple[EntryPoint, ...]]:
    """Name → entry points of that name, more than one if packages are at odds. Imports none of them."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in _points():
        found[point.name] = (*found.get(point.name, ()), point)
    return {name: tuple(sorted(points, key=_package)) for name, points in found.items()}


def clash(name: str) -> str | None:
    """What is wrong if a package claims the name of a built-in workload."""
    points = installed().get(name)
    if not points:
        return None
    return (
        f"The workload {name!r} is built in, but {_package(points[0])} has an entry point of the same name "
        f"({points[0].value}), so that it is not clear which is meant. Rename that entry point, or uninstall the package."
    )


def from_package(name: str) -> Workload | None:
    """The workload that an installed package has under this name, or None.

    Raises:
        SpecError: two packages have it, or what the package gives is no workload.
    """
    points = installed().get(name)
    if points is None:
        return None
    if len(points) > 1:
        raise SpecError(
            f"The workload {name!r} is claimed by more than one package: "
            f"{', '.join(f'{_package(p)} ({p.value})' for p in points)}. Uninstall all but one."
        )
    (point,) = points
    where = f"The workload {name!r} of {_package(point)} (entry point {point.value})"
    try:
        given = point.load()
    except Exception as error:  # whatever a foreign module does while it is imported
        raise SpecError(f"{where} cannot be imported: {import_problem(point.module, error)}.") from error
    workload = checked(given, where)
    if workload.name != name:
        raise SpecError(f"{where} calls itself {workload.name!r}. Give the entry point and the Workload the same name.")
    return workload


def from_modules(modules: tuple[str, ...], name: str) -> Workload | None:
    """The workload that a module on the allow-list has under this name, or None.

    Raises:
        SpecError: two modules have it, or no module has it and one of them is broken.
    """
    found: list[tuple[str, Workload]] = []
    broken: SpecError | None = None
    for module in modules:
        try:
            found += [(module, workload) for workload in declared_by(module) if workload.name == name]
        except SpecError as error:  # another module may have it
            broken = broken or error
    if len(found) > 1:
        raise SpecError(
            f"More than one workload is called {name!r} in the modules of the setting workload_modules: "
            f"{', '.join(module for module, _ in found)}. Leave all but one out, or rename one."
        )
    if found:
        return found[0][1]
    if broken is not None:
        raise broken
    return None


def declared_by(module: str) -> list[Workload]:
    """The workloads of a module on the allow-list, which is imported.

    Raises:
        SpecError: it cannot be imported, or has no workloads.
    """
    where = f"The module {module!r} of the setting workload_modules"
    try:
        given = getattr(importlib.import_module(module), ATTRIBUTE, None)
    except Exception as error:  # whatever a foreign module does while it is imported
        raise SpecError(f"{where} cannot be imported: {import_problem(module, error)}.") from error
    if given is None:
        raise SpecError(f"{where} has no attribute {ATTRIBUTE}. Set it to a Workload, or to a list of them.")
    several = given if isinstance(given, list | tuple) else [given]
    return [checked(one, f"{where}, in {ATTRIBUTE},") for one in several]


def checked(given: object, where: str) -> Workload:
    """What a package or module gives, if it is a workload that can be used.

    Raises:
        SpecError: it is not; the message says what to change.
    """
    if not isinstance(given, Workload):
        what = f"the class {given.__name__}" if isinstance(given, type) else f"a {type(given).__name__}"
        raise SpecError(f"{where} is {what}; expected a gradtrace.service.workloads.Workload(name, ..., module).")
    if not isinstance(given.name, str) or not _NAME.fullmatch(given.name):
        raise SpecError(
            f"{where} is called {given.name!r}; a name has small letters, digits and hyphens, 64 at most: my-net."
        )
    for field in ("description", "module"):
        if not isinstance(getattr(given, field), str):
            raise SpecError(f"{where} has a {field} that is no text: {getattr(given, field)!r}.")
    parameters = given.parameters
    if not (isinstance(parameters, type) and issubclass(parameters, WorkloadParameters)):
        raise SpecError(
            f"{where} has parameters of {parameters!r}; expected a subclass of "
            f"gradtrace.service.workloads.WorkloadParameters."
        )
    config = parameters.model_config
    if config.get("extra") != "forbid" or not config.get("frozen"):
        raise SpecError(
            f"{where}: {parameters.__name__} must forbid extra fields and be frozen, as WorkloadParameters is; do not "
            f"override `extra` or `frozen` in its model_config (extra={config.get('extra')!r}, "
            f"frozen={config.get('frozen')!r})."
        )
    for name, field_info in parameters.model_fields.items():
        if not field_info.is_required() and not isinstance(
            field_info.get_default(call_default_factory=False), _SCALARS
        ):
            raise SpecError(
                f"{where}: the default of {parameters.__name__}.{name} is no text, number, truth value or None. A "
                f"hyperparameter is one of these, so that runs can be compared by it."
            )
    return given


@cache
def _points() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=GROUP))


def _package(point: EntryPoint) -> str:
    return f"the package {point.dist.name} {point.dist.version}" if point.dist is not None else "an unknown package"


def every(built_in: Container[str], modules: tuple[str, ...]) -> Iterator[tuple[str, str, Workload | SpecError]]:
    """All foreign workloads, for a list: name, where it is from, and the workload or what is wrong with it."""
    for name, points in installed().items():
        origin = _package(points[0])
        try:
            if name in built_in and (problem := clash(name)):
                raise SpecError(problem)
            workload = from_package(name)
            assert workload is not None, "it is installed"
            yield name, origin, workload
        except SpecError as error:
            yield name, origin, error
    for module in modules:
        try:
            for workload in declared_by(module):
                yield workload.name, f"the module {module}", workload
        except SpecError as error:
            yield module, f"the module {module}", error
