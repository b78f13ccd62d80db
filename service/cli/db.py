"""`gradtrace db start|stop|status`; `check`, `expand`, `prune`, `export` and `import` are beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gradtrace.service.cli.check import check
from gradtrace.service.cli.expand import expand
from gradtrace.service.cli.export import export
from gradtrace.service.cli.import_runs import import_runs
from gradtrace.service.cli.output import format_option, write_rows
from gradtrace.service.cli.prune import prune

if TYPE_CHECKING:
    from gradtrace.service.settings import Settings

COLUMNS = ("server", "state", "address", "user", "version", "pid", "data", "clients")


@click.group("db")
def command() -> None:
    """Start, stop or look at the embedded Neo4j; check, expand, prune, export or import what is stored.

    Other commands start it as needed.

    \b
    Examples:
      gradtrace db start
      gradtrace db status --format json
      gradtrace db stop
      gradtrace db check
      gradtrace db prune --older-than 30 --keep-every 100 --dry-run
      gradtrace db export char-lstm-20261123-231501-7f3a -o char-lstm
      gradtrace db import char-lstm
    """


command.add_command(check)
command.add_command(prune)
command.add_command(expand)
command.add_command(export)
command.add_command(import_runs)


@command.command("start")
@format_option
def start(output: str) -> None:
    """Start the embedded Neo4j, unless it runs; the first time, its files are fetched.

    \b
    Examples:
      gradtrace db start
      GRADTRACE_DATA=/srv/traces gradtrace db start
    """
    from gradtrace.service.local import ensure_server

    settings = _own()
    ensure_server(settings.data, progress=True, lasting=True)
    _status(settings, output)


@command.command("stop")
def stop() -> None:
    """Stop the embedded Neo4j, whoever uses it. What is stored stays.

    \b
    Examples:
      gradtrace db stop
    """
    from gradtrace.service.local import stop_server

    stopped = stop_server(_own().data)
    click.echo("Stopped." if stopped else "It was not running.", err=True)


@command.command("status")
@click.option("--show-password", is_flag=True, help="Show the embedded server's generated password as well.")
@format_option
def status(show_password: bool, output: str) -> None:
    """Say whether the database runs, and where. Exit status 3 if nothing answers.

    The address and user are what Neo4j's own tools ask for (Browser, cypher-shell, any driver).

    \b
    Examples:
      gradtrace db status
      gradtrace db status --show-password --format json
    """
    from gradtrace.service.cli.store import load

    settings = load()
    if settings.neo4j_uri:
        from gradtrace.service.cli.store import opened_store

        with opened_store() as store:
            version = store.store.driver.get_server_info().agent.rpartition("/")[2]
        row = {"server": "given", "state": "running", "address": settings.neo4j_uri, "user": settings.neo4j_user}
        write_rows([{**row, "version": version}], COLUMNS[:5], output)
        return
    click.get_current_context().exit(_status(settings, output, show_password))


def _status(settings: Settings, output: str, show_password: bool = False) -> int:
    """Write the row of the embedded server; 0 if it runs, else 3."""
    from gradtrace.service.cli.failures import OK, UNREACHABLE
    from gradtrace.service.local import default_data, server_clients, server_status

    data = settings.data or default_data()
    info = server_status(settings.data)
    row: dict[str, Any] = {"server": "embedded", "state": "stopped", "data": str(data)}
    columns = list(COLUMNS)
    if info is not None:
        row |= {
            "state": "running",
            "address": info.uri,
            "user": info.user,
            "version": info.version,
            "pid": info.pid,
            "clients": len(server_clients(settings.data)),
        }
        if show_password:
            row["password"] = info.password
            columns.append("password")
    write_rows([row], columns, output)
    return OK if info is not None else UNREACHABLE


def _own() -> Settings:
    """The settings, if they leave the database to gradtrace.

    Raises:
        SpecError: they name a server of the user's own.
    """
    from gradtrace.service.cli.store import load
    from gradtrace.tracer.errors import SpecError

    settings = load()
    if settings.neo4j_uri:
        raise SpecError(
            f"The settings name a Neo4j server of your own ({settings.neo4j_uri}), which gradtrace neither starts nor "
            "stops. Leave GRADTRACE_NEO4J_URI out to use the embedded one."
        )
    return settings
