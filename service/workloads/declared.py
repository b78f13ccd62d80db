"""What a workload is to the registry: a name, its parameters, and where it is built."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradtrace.service.workloads.parameters import WorkloadParameters
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
        """Import the workload and make model, optimizer and data. Reads nothing from the network.

        Raises:
            SpecError: the module cannot be imported, or its `build` is not as it must be.
        """
        where = f"The workload {self.name!r}"
        try:
            module = importlib.import_module(self.module)
        except Exception as error:  # whatever a foreign module does while it is imported
            raise SpecError(f"{where} cannot be built: {import_problem(self.module, error)}.") from error
        build = getattr(module, "build", None)
        if not callable(build):
            raise SpecError(f"{where} cannot be built: {self.module} has no function build(parameters).")
        try:
            inspect.signature(build).bind(parameters)
        except TypeError as error:
            raise SpecError(
                f"{where} cannot be built: {self.module}.build{inspect.signature(build)} cannot be called with the "
                f"parameters alone ({error}); expected build(parameters)."
            ) from None
        built = build(parameters)
        from gradtrace.service.workloads.instance import WorkloadInstance  # not above: it imports torch

        if not isinstance(built, WorkloadInstance):
            raise SpecError(
                f"{where} cannot be trained: {self.module}.build gave a {type(built).__name__}; expected a "
                f"gradtrace.service.workloads.instance.WorkloadInstance."
            )
        return built


def import_problem(module: str, error: Exception) -> str:
    """Why a module could not be imported: because there is none, or because it raised while it was.

    >>> import_problem("my.net", ModuleNotFoundError("No module named 'my'", name="my"))
    "there is no module 'my' (install its package, or put its folder into PYTHONPATH)"
    """
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing and (missing == module or module.startswith(f"{missing}.")):
        return f"there is no module {missing!r} (install its package, or put its folder into PYTHONPATH)"
    return f"{module} was found, but importing it raised {type(error).__name__}: {error}".rstrip(".")
