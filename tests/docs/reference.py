"""What the reference must hold: every public name, and every command with its options."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator

import click

from gradtrace.service.cli.app import COMMANDS, cli

ADAPTERS = tuple(
    f"gradtrace.tracer.adapters.{name}"
    for name in ("lightning", "mlflow", "networkx", "shares", "tensorboard", "transformers")
)
PUBLIC = (
    "gradtrace.tracer",
    "gradtrace.tracer.sinks",
    "gradtrace.queries",
    "gradtrace.service.local",
    "gradtrace.service.report",
    "gradtrace.service.store",
    "gradtrace.service.workloads",
)
"""Packages whose `__all__` is promised to users; with `ADAPTERS`, which take seconds to import, all of them."""

LEAST_WORDS = 3


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command and subcommand with the line that calls it."""
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        yield f"gradtrace {name}", command
        if isinstance(command, click.Group):
            yield from ((f"gradtrace {name} {sub}", c) for sub, c in command.commands.items())


def public(module: str) -> dict[str, object]:
    """What a package promises, by name."""
    loaded = importlib.import_module(module)
    assert len(set(loaded.__all__)) == len(loaded.__all__) > 0
    return {name: getattr(loaded, name) for name in loaded.__all__}


def silent(module: str) -> list[str]:
    """Public names, and public methods of public classes, whose docstrings say no more than a name does."""
    found = []
    for name, thing in public(module).items():
        if inspect.isclass(thing):
            found += [f"{name}.{n}" for n, member in own(thing) if not tells(member)]
        if (inspect.isclass(thing) or inspect.isroutine(thing)) and not tells(thing):
            found.append(name)
    return found


def tells(thing: object) -> bool:
    """Whether its docstring is more than its name, or than the signature that Python gives a dataclass for want of one."""
    text = inspect.getdoc(thing) or ""
    name = getattr(thing, "__name__", None)
    return len(text.split()) >= LEAST_WORDS and not (name and text.startswith(f"{name}("))


def own(thing: type) -> Iterator[tuple[str, object]]:
    """Public methods and properties that the class itself defines."""
    for name, member in vars(thing).items():
        kinds = property | classmethod | staticmethod
        if not name.startswith("_") and (inspect.isroutine(member) or isinstance(member, kinds)):
            yield name, member
