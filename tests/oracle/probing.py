"""Jacobians of single autograd nodes, by one-hot gradients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from tests.oracle.recording import Node


@dataclass(frozen=True)
class Jacobian:
    """The nonzero partials of one node: parallel arrays, one entry a scalar edge.

    Attributes:
        output, row: which output of the node and which flat scalar of it (the user).
        slot, column: which operand and which flat scalar of it (what was read).
        weight: float64 partial.
    """

    output: np.ndarray
    row: np.ndarray
    slot: np.ndarray
    column: np.ndarray
    weight: np.ndarray


def positions(raw: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    """For each flat position of a gradient of shape `raw`, the flat position in the operand of shape `shape`.

    A node called directly does not sum its gradient to the operand's shape: broadcast copies are still apart, and
    each is an edge of its own.
    """
    index = torch.arange(int(np.prod(shape))).reshape(shape)
    if raw == shape:
        return index.reshape(-1).numpy()
    return index.expand(raw).reshape(-1).numpy()


def jacobian(node: Node) -> Jacobian:
    """Probe every scalar of every output of `node`."""
    parts: list[tuple[int, int, int, np.ndarray, np.ndarray]] = []
    maps: dict[tuple[int, tuple[int, ...]], np.ndarray] = {}
    for k, shape in enumerate(node.shapes):
        for row in range(int(np.prod(shape))):
            for slot, grad in enumerate(node.call(k, row)):
                if slot >= len(node.operands):
                    break
                operand = node.operands[slot]
                if grad is None or operand is None:
                    continue
                dense = (grad if grad.layout == torch.strided else grad.to_dense()).detach().to(torch.float64)
                raw = tuple(dense.shape)
                up, nr = operand
                if (slot, raw) not in maps:
                    maps[slot, raw] = positions(raw, up.shapes[nr])
                flat = dense.reshape(-1).numpy()
                hit = np.flatnonzero(flat)
                if len(hit):
                    parts.append((k, row, slot, maps[slot, raw][hit], flat[hit]))
    sizes = [len(p[3]) for p in parts]

    def column(i: int) -> np.ndarray:
        return np.repeat(np.array([p[i] for p in parts], dtype=np.int64), sizes)

    empty_i, empty_f = np.zeros(0, dtype=np.int64), np.zeros(0)
    return Jacobian(
        output=column(0),
        row=column(1),
        slot=column(2),
        column=np.concatenate([p[3] for p in parts]) if parts else empty_i,
        weight=np.concatenate([p[4] for p in parts]) if parts else empty_f,
    )
