"""The options that `run` and `submit` have in common: what to train, and what to trace of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from gradtrace.service.cli.arguments import Every, Pair
from gradtrace.service.cli.completion import complete_parameter, complete_workload

DEFAULT_WORKLOAD = "char-lstm"

_OPTIONS = (
    click.argument("workload", default=DEFAULT_WORKLOAD, shell_complete=complete_workload),
    click.option(
        "--set",
        "parameters",
        type=Pair(),
        multiple=True,
        shell_complete=complete_parameter,
        help="Set a hyperparameter.",
    ),
    click.option("--epochs", metavar="N", help="The same as --set epochs=N."),
    click.option("--steps", metavar="N", help="The same as --set steps=N."),
    click.option("--seed", metavar="N", help="The same as --set seed=N."),
    click.option("--every", type=Every(), default=10, show_default=True, help="Trace every n-th step, or log-spaced."),
    click.option(
        "--batch",
        "batches",
        type=click.Choice(["training", "probe", "both"]),
        default="training",
        show_default=True,
        help="Trace the training batch, a fixed held-out probe batch, or both.",
    ),
    click.option(
        "--mode",
        "modes",
        type=click.Choice(["greedy", "maxprod", "entropy", "abs-sum"]),
        multiple=True,
        default=("greedy",),
        show_default=True,
        help="Kind of trace (greedy, maxprod), or sum over all paths beside one; may be given several times.",
    ),
    click.option(
        "--watch", multiple=True, metavar="PARAMETER", help="Keep this parameter's whole path at every traced step."
    ),
    click.option(
        "--block",
        "blocked",
        multiple=True,
        metavar="COMPONENT",
        help="Let no gradient pass through this component; may be repeated.",
    ),
    click.option(
        "--fold",
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        show_default=True,
        help="Store graphs with one vertex for all repetitions of an operator; auto: those with more edges than --fold-edges.",
    ),
    click.option(
        "--fold-edges", type=click.IntRange(0), default=2000, show_default=True, help="Edges from which on auto folds."
    ),
    click.option(
        "--granularity",
        type=click.Choice(["operator", "scalar"]),
        default="operator",
        show_default=True,
        help="scalar: keep every scalar, weighted edge and pointer of traced steps too; for small models.",
    ),
    click.option(
        "--graph-budget",
        type=click.IntRange(1, 200_000),
        default=200_000,
        show_default=True,
        help="Scalar vertices and edges that a traced batch may have; more is refused.",
    ),
    click.option("--experiment", default="default", show_default=True, help="Name under which runs are grouped."),
    click.option(
        "--non-finite",
        type=click.Choice(["continue", "stop"]),
        default="continue",
        show_default=True,
        help="What to do when the loss becomes NaN or infinite.",
    ),
    click.option(
        "--on-error",
        type=click.Choice(["raise", "warn"]),
        default="raise",
        show_default=True,
        help="What to do when a step cannot be traced.",
    ),
    click.option(
        "--kernels",
        type=click.Choice(["native", "traceable"]),
        default="native",
        show_default=True,
        help="traceable: use decomposed kernels on untraced steps too, so that tracing never changes the weights.",
    ),
    click.option("--threads", type=click.IntRange(1, 1024), help="Threads of torch."),
)


def spec_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the argument WORKLOAD and all options of a spec."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def spec_options_but(*left_out: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`spec_options` without some of them, named by the argument that a command would get."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        # Where click keeps them. An option of the command's own may have such a name, and stays.
        own = list(getattr(function, "__click_params__", ()))
        command = spec_options(function)
        known: list[click.Parameter] = command.__click_params__  # type: ignore[attr-defined]
        known[:] = [parameter for parameter in known if parameter in own or parameter.name not in left_out]
        return command

    return decorate


def given_parameters(parameters: tuple[tuple[str, str], ...], short: Mapping[str, str | None]) -> dict[str, str]:
    """Hyperparameters of `--set` and of the short options, name → text.

    Raises:
        click.UsageError: one is given twice, with different values.
    """
    given: dict[str, str] = {}
    for name, text in (*parameters, *((k, v) for k, v in short.items() if v is not None)):
        if name in given and given[name] != text:
            raise click.UsageError(f"{name} is given twice: {given[name]} and {text}.")
        given[name] = text
    return given
