"""Hyperparameters of the workloads that are architectures of the literature, typed and bounded. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gradtrace.service.workloads.parameters import PositiveRate, WorkloadParameters

Language = Literal["marked-reversal", "unmarked-reversal", "padded-reversal", "dyck", "queue-copying"]


class GeneratedParameters(WorkloadParameters):
    """What workloads have whose examples are made up: how many, all of them different."""

    examples: int = Field(default=4096, ge=2, le=200_000, description="training examples, all different")
    held_out: int = Field(default=256, ge=1, le=20_000, description="examples that are not trained on")


class SyntheticFfParameters(GeneratedParameters):
    """Parameters of `synthetic-ff`."""

    lr: PositiveRate = Field(default=2e-3, description="learning rate of Adam")
    epochs: int = Field(default=10, ge=1, le=10_000, description="passes over the training data")
    layers: int = Field(default=10, ge=1, le=10_000, description="layers, each 20 wide")


class RecurrentParameters(GeneratedParameters):
    """What `rnn`, `lstm` and `gru` have."""

    epochs: int = Field(default=10, ge=1, le=10_000, description="passes over the training data")
    lr: PositiveRate = Field(default=3e-3, description="learning rate of Adam")
    task: Literal["copying", "adding"] = Field(default="copying", description="what to learn")
    hidden: int = Field(default=32, ge=1, le=2048, description="width of the recurrent state")
    layers: int = Field(default=1, ge=1, le=8, description="recurrent layers")
    symbols: int = Field(default=8, ge=2, le=256, description="copying: symbols that are to be kept in mind")
    fillers: int = Field(
        default=4, ge=1, le=256, description="copying: symbols that mean nothing, drawn during the lag"
    )
    items: int = Field(default=1, ge=1, le=64, description="copying: how many symbols to keep in mind")
    lag: int = Field(default=20, ge=0, le=2048, description="steps between what is to be kept and the question")


class RnnParameters(RecurrentParameters):
    """Parameters of `rnn`."""

    lr: PositiveRate = Field(default=1e-3, description="learning rate of Adam")
    lag: int = Field(default=10, ge=0, le=2048, description="steps between what is to be kept and the question")


class LstmParameters(RecurrentParameters):
    """Parameters of `lstm`."""

    forget_bias: float = Field(
        default=1.0, ge=-20, le=20, allow_inf_nan=False, description="bias of the forget gate at the start"
    )


class GruParameters(RecurrentParameters):
    """Parameters of `gru`."""


class HighwayParameters(WorkloadParameters):
    """Parameters of `highway`."""

    epochs: int = Field(default=10, ge=1, le=10_000, description="passes over the training data")
    lr: PositiveRate = Field(default=3e-3, description="learning rate of Adam")
    hidden: int = Field(default=32, ge=1, le=4096, description="width of the highway layers")
    layers: int = Field(default=10, ge=1, le=1000, description="highway layers")
    carry_bias: float = Field(
        default=2.0,
        ge=-50,
        le=50,
        allow_inf_nan=False,
        description="minus the bias of the transform gates at the start: high carries, low transforms",
    )


class DigitsCnnParameters(WorkloadParameters):
    """Parameters of `digits-cnn`."""

    epochs: int = Field(default=3, ge=1, le=10_000, description="passes over the training data")
    lr: PositiveRate = Field(default=3e-3, description="learning rate of Adam")
    channels: int = Field(
        default=8, ge=1, le=512, description="channels of the first convolution; the second has twice as many"
    )


class ResnetParameters(WorkloadParameters):
    """Parameters of `resnet`."""

    epochs: int = Field(default=3, ge=1, le=10_000, description="passes over the training data")
    lr: PositiveRate = Field(default=3e-3, description="learning rate of Adam")
    channels: int = Field(default=8, ge=1, le=512, description="channels of the residual blocks")
    blocks: int = Field(default=3, ge=1, le=200, description="residual blocks")
    branch_scale: float = Field(
        default=1.0,
        ge=0,
        le=100,
        allow_inf_nan=False,
        description="factor on the residual branches' last weights at the start",
    )


class SequencePairParameters(GeneratedParameters):
    """What `seq2seq-attention` and `transformer` have."""

    epochs: int = Field(default=8, ge=1, le=10_000, description="passes over the training data")
    lr: PositiveRate = Field(default=5e-3, description="learning rate of Adam")
    symbols: int = Field(default=10, ge=2, le=1000, description="symbols of the alphabet")
    length: int = Field(default=8, ge=1, le=512, description="symbols in a sequence")


class Seq2seqAttentionParameters(SequencePairParameters):
    """Parameters of `seq2seq-attention`."""

    hidden: int = Field(default=32, ge=1, le=2048, description="width of the recurrent states, embeddings and scores")


class TransformerParameters(SequencePairParameters):
    """Parameters of `transformer`."""

    lr: PositiveRate = Field(default=3e-3, description="learning rate of Adam")
    width: int = Field(default=32, ge=1, le=4096, description="width of the model")
    heads: int = Field(default=4, ge=1, le=64, description="attention heads; divides the width")
    feed_forward: int = Field(default=64, ge=1, le=16384, description="width of the feed-forward networks")
    layers: int = Field(default=1, ge=1, le=48, description="layers of the encoder, and of the decoder")


class MemoryParameters(GeneratedParameters):
    """What `stack-rnn` and `queue-rnn` have."""

    epochs: int = Field(default=8, ge=1, le=10_000, description="passes over the training data")
    lr: PositiveRate = Field(default=5e-3, description="learning rate of Adam")
    symbols: int = Field(default=4, ge=1, le=256, description="symbols of the words (dyck: kinds of brackets)")
    min_length: int = Field(default=1, ge=1, le=512, description="symbols in the shortest word (dyck: pairs)")
    max_length: int = Field(default=8, ge=1, le=512, description="symbols in the longest word (dyck: pairs)")
    hidden: int = Field(default=16, ge=1, le=2048, description="width of the controller's state")
    cell: int = Field(default=8, ge=1, le=2048, description="width of a cell of the memory")
    controller: Literal["rnn", "lstm"] = Field(default="rnn", description="the recurrent network that works the memory")


class StackRnnParameters(MemoryParameters):
    """Parameters of `stack-rnn`."""

    kind: Literal["superposition", "strengths"] = Field(
        default="superposition", description="Joulin & Mikolov's stack, or that of Grefenstette et al."
    )
    language: Language = Field(default="marked-reversal", description="the formal language to learn")


class QueueRnnParameters(MemoryParameters):
    """Parameters of `queue-rnn`."""

    lr: PositiveRate = Field(default=1e-2, description="learning rate of Adam")
    hidden: int = Field(default=32, ge=1, le=2048, description="width of the controller's state")
    language: Language = Field(default="queue-copying", description="the formal language to learn")


class NtmParameters(GeneratedParameters):
    """Parameters of `ntm`."""

    epochs: int = Field(default=6, ge=1, le=10_000, description="passes over the training data")
    lr: PositiveRate = Field(default=5e-3, description="learning rate of Adam")
    bits: int = Field(default=4, ge=1, le=64, description="bits of a vector that is to be copied")
    min_length: int = Field(default=1, ge=1, le=256, description="vectors in the shortest sequence")
    max_length: int = Field(default=6, ge=1, le=256, description="vectors in the longest sequence")
    hidden: int = Field(default=32, ge=1, le=2048, description="width of the controller's state")
    controller: Literal["feedforward", "lstm"] = Field(default="lstm", description="the network that works the heads")
    slots: int = Field(default=16, ge=3, le=1024, description="locations of the memory")
    cell: int = Field(default=8, ge=1, le=512, description="width of a location of the memory")
