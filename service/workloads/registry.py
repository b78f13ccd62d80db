"""The list of workloads: names, descriptions and parameters, without importing what builds them."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradtrace.service.suggest import choices
from gradtrace.service.workloads.architectures import ARCHITECTURES
from gradtrace.service.workloads.parameters import CharLstmParameters, DigitsMlpParameters, WorkloadParameters
from gradtrace.tracer.errors import SpecError

if TYPE_CHECKING:
    from gradtrace.service.workloads.instance import WorkloadInstance


@dataclass(frozen=True, slots=True)
class Workload:
    """One workload of the registry.

    Attributes:
        name: what the command line calls it.
        description: one line for people.
        parameters: model of its hyperparameters.
        module: module whose `build(parameters)` makes a `WorkloadInstance`; imported only by `build`.
    """

    name: str
    description: str
    parameters: type[WorkloadParameters]
    module: str

    def build(self, parameters: WorkloadParameters) -> WorkloadInstance:
        """Import the workload and make model, optimizer and data. Reads nothing from the network."""
        return importlib.import_module(self.module).build(parameters)


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
    """The workload of that name.

    Raises:
        SpecError: there is none; the message lists those there are.
    """
    try:
        return WORKLOADS[name]
    except KeyError:
        raise SpecError(f"There is no workload {name!r}. {choices(name, WORKLOADS, 'Workloads')}") from None
