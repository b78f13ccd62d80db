"""Kinds of values on the command line."""

from __future__ import annotations

from typing import Any

import click


class Pair(click.ParamType[tuple[str, str]]):
    """`name=value`."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, sign, text = str(value).partition("=")
        if not sign or not name.strip():
            self.fail(f"{value!r} is not of the form name=value", param, ctx)
        return name.strip(), text.strip()


class Every(click.ParamType["int | str"]):
    """A whole number above 0, or "log"."""

    name = "n|log"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        if isinstance(value, int) or value == "log":
            return value
        if not (str(value).isascii() and str(value).isdigit() and int(value) > 0):
            self.fail(f'{value!r} is neither a whole number above 0 nor "log"', param, ctx)
        return int(value)
