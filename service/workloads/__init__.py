"""Built-in workloads: small models on real data that every machine with Python and scikit-learn has.

Nothing here imports torch until `Workload.build` is called.
"""

from gradtrace.service.workloads.parameters import WorkloadParameters as WorkloadParameters
from gradtrace.service.workloads.registry import DEFAULT as DEFAULT
from gradtrace.service.workloads.registry import WORKLOADS as WORKLOADS
from gradtrace.service.workloads.registry import Workload as Workload
from gradtrace.service.workloads.registry import find as find

__all__ = ["DEFAULT", "WORKLOADS", "Workload", "WorkloadParameters", "find"]
