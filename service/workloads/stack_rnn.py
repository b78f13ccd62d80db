"""`stack-rnn`: a recurrent network that works a differentiable stack, on a context-free language.

With `kind=superposition` the stack of Joulin & Mikolov 2015 ("Inferring Algorithmic Patterns with Stack-Augmented
Recurrent Nets"), with `kind=strengths` that of Grefenstette et al. 2015 ("Learning to Transduce with Unbounded Memory").
"""

from __future__ import annotations

from torch import nn

from gradtrace.service.workloads.architecture_parameters import StackRnnParameters
from gradtrace.service.workloads.generated import PROBE_SIZE, divided
from gradtrace.service.workloads.instance import WorkloadInstance, classifier
from gradtrace.service.workloads.languages import Vocabulary, examples
from gradtrace.service.workloads.memories import CLIP, MemoryRnn, StrengthMemory, SuperpositionStack


def build(parameters: StackRnnParameters) -> WorkloadInstance:
    """Make up the words and the model. Draws the weights from torch's global random state."""
    hidden, cell = parameters.hidden, parameters.cell
    stack: nn.Module
    if parameters.kind == "superposition":
        stack = SuperpositionStack(hidden, cell, depth=parameters.max_length + 1)
    else:
        stack = StrengthMemory(hidden, cell, queue=False)
    lstm = parameters.controller == "lstm"
    model = MemoryRnn(Vocabulary(parameters.symbols).size, hidden, cell, lstm, "stack", stack)
    training, held_out = divided(*examples(parameters.language, parameters), parameters)
    return classifier(model, parameters.lr, training, held_out, probe_size=PROBE_SIZE, notes=(), clip=CLIP)
