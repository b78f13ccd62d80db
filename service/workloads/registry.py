"""The list of workloads: names, descriptions and parameters, without importing what builds them."""

from __future__ import annotations

from gradtrace.service.suggest import choices
from gradtrace.service.workloads import foreign
from gradtrace.service.workloads.architectures import ARCHITECTURES
from gradtrace.service.workloads.declared import Workload as Workload
from gradtrace.service.workloads.parameters import CharLstmParameters, DigitsMlpParameters
from gradtrace.tracer.errors import SpecError

DEFAULT = "char-lstm"

WORKLOADS: dict[str, Workload] = {
    w.name: w
    for w in (
        Workload(
            "char-lstm",
            "LSTM that learns to write Python, character by character, from the standard library's own source",
            CharLstmParameters,
            "gradtrace.service.workloads.char_lstm",
        ),
        Workload(
            "digits-mlp",
            "multilayer perceptron that reads the 1,797 handwritten digits (8x8 pixels) of the UCI data set",
            DigitsMlpParameters,
            "gradtrace.service.workloads.digits_mlp",
        ),
        *(Workload(*row) for row in ARCHITECTURES),
    )
}


def find(name: str) -> Workload:
    """The workload of that name: built in, of an installed package, or of a module on the allow-list.

    Nothing else is ever imported, whatever the name says.

    Raises:
        SpecError: there is none (the message lists those there are), or what has that name is no workload.
    """
    built_in = WORKLOADS.get(name)
    if built_in is not None:
        if problem := foreign.clash(name):
            raise SpecError(problem)
        return built_in
    found = foreign.from_package(name)
    if found is not None:
        return found
    from gradtrace.service.settings import load_settings

    modules = load_settings().workload_modules
    found = foreign.from_modules(modules, name)
    if found is not None:
        return found
    known = {*WORKLOADS, *foreign.installed()}
    listed = f" The modules {', '.join(modules)} have none of that name." if modules else ""
    raise SpecError(f"There is no workload {_short(name)}. {choices(name[:100], known, 'Workloads')}{listed}")


def _short(name: str) -> str:
    text = repr(name)
    return text if len(text) <= 60 else text[:57] + "..."
