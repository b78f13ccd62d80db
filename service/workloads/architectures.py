"""The rows of the registry that are architectures of the literature: name, description, parameters, module.

Imports no torch. What each of them learns, and how well: docs/workloads.md.
"""

from __future__ import annotations

from gradtrace.service.workloads import architecture_parameters as p
from gradtrace.service.workloads.parameters import WorkloadParameters

_HERE = "gradtrace.service.workloads."

ARCHITECTURES: tuple[tuple[str, str, type[WorkloadParameters], str], ...] = (
    (
        "synthetic-ff",
        "feed-forward net of any depth, every layer 20 wide, on random data: what tracing costs by depth",
        p.SyntheticFfParameters,
        _HERE + "synthetic_ff",
    ),
    (
        "rnn",
        "Elman network on long-lag copying or adding",
        p.RnnParameters,
        _HERE + "recurrent",
    ),
    (
        "lstm",
        "LSTM on long-lag copying or adding; its gates, carry and write are components",
        p.LstmParameters,
        _HERE + "recurrent",
    ),
    (
        "gru",
        "gated recurrent unit on long-lag copying or adding; its gates and mixing are components",
        p.GruParameters,
        _HERE + "recurrent",
    ),
    (
        "highway",
        "highway network on the handwritten digits; carry and transform are components",
        p.HighwayParameters,
        _HERE + "highway",
    ),
    (
        "stack-rnn",
        "recurrent network with a differentiable stack on a context-free language; push, pop and read are components",
        p.StackRnnParameters,
        _HERE + "stack_rnn",
    ),
    (
        "queue-rnn",
        "recurrent network with a differentiable queue on queue copying; push, pop and read are components",
        p.QueueRnnParameters,
        _HERE + "queue_rnn",
    ),
    (
        "ntm",
        "Neural Turing Machine on the copy task; addressing, read, erase and add are components",
        p.NtmParameters,
        _HERE + "ntm",
    ),
    (
        "seq2seq-attention",
        "encoder-decoder with additive attention, saying sequences backwards; query, keys and context are components",
        p.Seq2seqAttentionParameters,
        _HERE + "seq2seq_attention",
    ),
    (
        "transformer",
        "encoder-decoder of attention alone, saying sequences backwards; queries, keys, values, skips are components",
        p.TransformerParameters,
        _HERE + "transformer",
    ),
    (
        "digits-cnn",
        "convolutional network with max-pooling on the handwritten digits",
        p.DigitsCnnParameters,
        _HERE + "digits_cnn",
    ),
    (
        "resnet",
        "residual network on the handwritten digits; skip and residual branch are components",
        p.ResnetParameters,
        _HERE + "resnet",
    ),
)
