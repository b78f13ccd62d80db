"""The group of all commands. Each command's module is imported only when that command is called."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from gradtrace.service.suggest import choices

# Name → what it does, in the order of `gradtrace --help`. The command is `command` in gradtrace.service.cli.NAME.
COMMANDS = {
    "run": "Train a workload, trace its gradients, store what was seen.",
    "up": "Start Neo4j, Valkey and a worker on this machine.",
    "status": "Look at servers, workers, queues and running runs.",
    "down": "Stop what `up` started.",
    "submit": "Queue runs for workers, one or a grid of them.",
    "worker": "Work on submitted runs.",
    "watch": "Follow a submitted run.",
    "cancel": "End submitted runs.",
    "resume": "Queue cancelled or failed runs again.",
    "ablate": "Block the gradient through components, and see what that costs.",
    "trace": "Trace a model after the fact, at its saved checkpoints.",
    "runs": "List the stored runs.",
    "report": "Write a report on runs: HTML, Markdown or a picture.",
    "query": "Ask a question of the library, or list the questions.",
    "cypher": "Ask the graph database in Cypher (read-only unless told).",
    "schema": "Explain what the graph database holds, and how to ask for it.",
    "db": "Start, stop or look at the embedded database.",
    "workloads": "List the workloads and their parameters.",
    "doctor": "Check this installation, and say what to do.",
}

DEBUG_VARIABLE = "GRADTRACE_DEBUG"


class _PipeClosedError(Exception):
    """Nobody reads stdout any more."""


class LazyGroup(click.Group):
    """A group that knows its commands' names and one-line help without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return importlib.import_module(f"gradtrace.service.cli.{cmd_name}").command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"There is no command {args[0]!r}. {choices(args[0], COMMANDS, 'Commands')}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            raise _PipeClosedError from None  # click would end with status 1
        return result

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gradtrace", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, envvar=DEBUG_VARIABLE, help="Show tracebacks and the whole log.")
@click.option("-v", "--verbose", count=True, help="Log more (-vv: everything) on stderr.")
@click.pass_context
def cli(ctx: click.Context, debug: bool, verbose: int) -> None:
    """Watch neural networks learn: trace, step by step, which way the gradient reaches each parameter, keep what is
    seen in a graph database, and ask it questions.

    \b
    Examples:
      gradtrace run                                 train the default workload, traced
      gradtrace run char-lstm --set hidden=128      the same, with a wider LSTM
      gradtrace query                               list the questions
      gradtrace query components-by-epoch           ask one about the latest run
      gradtrace cypher 'MATCH (r:Run) RETURN r.id, r.status'

    Data goes to stdout (--format table, json, ndjson or csv); progress and notes go to stderr.

    \b
    Exit status:
      0  done                      3  a server cannot be reached
      1  it failed                 4  refused (a writing query, credentials, a graph over budget)
      2  the command was wrong     130  interrupted; what was stored is whole

    \b
    Shell completion (commands, workloads, parameters, questions, runs):
      bash   eval "$(_GRADTRACE_COMPLETE=bash_source gradtrace)"   in ~/.bashrc
      zsh    eval "$(_GRADTRACE_COMPLETE=zsh_source gradtrace)"    in ~/.zshrc
      fish   _GRADTRACE_COMPLETE=fish_source gradtrace | source    in ~/.config/fish/config.fish

    Settings: environment variables GRADTRACE_*, then the file that GRADTRACE_SETTINGS names (TOML), then defaults.
    GRADTRACE_NEO4J_URI, _USER and _PASSWORD name a Neo4j server of your own; without, an embedded one is started.
    """
    from gradtrace.service.log import set_up

    set_up(2 if debug else verbose)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave the process with its exit status. No traceback unless asked for."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = cli.main(arguments, prog_name="gradtrace", standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except _PipeClosedError:
        # Whoever read us (`| head`) has seen enough. Python flushes stdout once more at exit: let it go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        _fail(error, arguments)


def _fail(error: Exception, arguments: Sequence[str]) -> NoReturn:
    """Say what went wrong on stderr, and exit with the status for it."""
    if "--debug" in arguments or os.environ.get(DEBUG_VARIABLE):
        import traceback

        traceback.print_exception(error)
    from gradtrace.service.cli.failures import exit_status, message

    click.echo(message(error), err=True)
    sys.exit(exit_status(error))
