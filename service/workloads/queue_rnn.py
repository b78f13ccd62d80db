"""`queue-rnn`: a recurrent network that works the differentiable queue of Grefenstette et al. 2015, "Learning to
Transduce with Unbounded Memory", on queue copying (or any of the formal languages)."""

from __future__ import annotations

from gradtrace.service.workloads.architecture_parameters import QueueRnnParameters
from gradtrace.service.workloads.generated import PROBE_SIZE, divided
from gradtrace.service.workloads.instance import WorkloadInstance, classifier
from gradtrace.service.workloads.languages import Vocabulary, examples
from gradtrace.service.workloads.memories import CLIP, MemoryRnn, StrengthMemory


def build(parameters: QueueRnnParameters) -> WorkloadInstance:
    """Make up the words and the model. Draws the weights from torch's global random state."""
    hidden, cell = parameters.hidden, parameters.cell
    queue = StrengthMemory(hidden, cell, queue=True)
    lstm = parameters.controller == "lstm"
    model = MemoryRnn(Vocabulary(parameters.symbols).size, hidden, cell, lstm, "queue", queue)
    training, held_out = divided(*examples(parameters.language, parameters), parameters)
    return classifier(model, parameters.lr, training, held_out, probe_size=PROBE_SIZE, notes=(), clip=CLIP)
