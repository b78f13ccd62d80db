"""The sources of the reference: docstrings and help say something, and no command lacks its page."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from gradtrace.service.cli.app import COMMANDS
from tests.docs.reference import PUBLIC, commands, silent, tells

PAGES = Path(__file__).resolve().parents[2] / "docs" / "reference" / "commands"


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_has_a_docstring(module: str) -> None:
    assert silent(module) == []


def test_every_command_and_option_has_help() -> None:
    for line, command in commands():
        assert command.help and len(command.help.split()) > 3, line
        for parameter in command.params:
            assert not isinstance(parameter, click.Option) or parameter.help, f"{line} {parameter.opts}"


def test_every_command_has_its_page() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == {"index", *COMMANDS}
    index = (PAGES / "index.md").read_text("utf-8")
    for name, about in COMMANDS.items():
        assert (
            f"click:: gradtrace.service.cli.{name}:command\n   :prog: gradtrace {name}\n"
            in (PAGES / f"{name}.md").read_text()
        )
        assert f"- [gradtrace {name}]({name}.md): {about[0].lower()}{about[1:].rstrip('.')}\n" in index


def test_silence_is_noticed() -> None:
    class Told:
        """It says something."""

        def told(self) -> None:
            """This says something."""

        def short(self) -> None:
            """Short."""

        def none(self) -> None: ...

    assert [tells(t) for t in (Told, Told.told, Told.short, Told.none)] == [True, True, False, False]
