"""Hyperparameters of the built-in workloads, typed and bounded. Imports no torch.

Each workload's parameters are one frozen model that forbids extras, so that a job spec can be checked before anything
that it names is imported.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

PositiveRate = Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)]


class WorkloadParameters(BaseModel):
    """What every workload has. Subclasses add their own and set the defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="seed of the weights and of the order of the data")
    epochs: int = Field(default=5, ge=1, le=10_000, description="passes over the training data")
    steps: int | None = Field(default=None, ge=1, le=10_000_000, description="stop after so many optimizer steps")
    batch_size: int = Field(default=32, ge=1, le=4096, description="examples in a batch")
    lr: PositiveRate = Field(default=1e-2, description="learning rate of Adam")


class CharLstmParameters(WorkloadParameters):
    """Parameters of `char-lstm`."""

    batch_size: int = Field(default=16, ge=1, le=4096, description="windows of text in a batch")
    lr: PositiveRate = Field(default=5e-3, description="learning rate of Adam")
    hidden: int = Field(default=64, ge=1, le=2048, description="width of the LSTM's state")
    embedding: int = Field(default=32, ge=1, le=2048, description="width of a character's embedding")
    layers: int = Field(default=1, ge=1, le=8, description="LSTM layers")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout between LSTM layers (needs two)")
    sequence_length: int = Field(default=20, ge=2, le=1024, description="characters in a window")
    characters: int = Field(default=32_000, ge=2_000, le=5_000_000, description="characters of training text")


class DigitsMlpParameters(WorkloadParameters):
    """Parameters of `digits-mlp`."""

    lr: PositiveRate = Field(default=3e-3, description="learning rate of Adam")
    hidden: int = Field(default=64, ge=1, le=4096, description="width of the hidden layers")
    layers: int = Field(default=2, ge=1, le=64, description="hidden layers")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout after every hidden layer")
