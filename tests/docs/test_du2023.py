"""The experiments of Du et al. at reduced size: what they are to show can be seen there already."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F

SCRIPT = Path(__file__).parents[2] / "examples" / "du2023" / "reproduce.py"


@pytest.fixture(scope="module")
def reproduce() -> ModuleType:
    spec = importlib.util.spec_from_file_location("du2023_reproduce", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_entropy_grows_with_the_hidden_size(reproduce: ModuleType) -> None:
    rows = reproduce.entropy_table((4, 16, 64), seeds=1, points=640)
    for entropies in ([r.fused for r in rows], [r.spelt_out for r in rows]):
        assert entropies == sorted(entropies)
        assert 1.0 < (entropies[2] - entropies[0]) < 3.2  # the logarithm of 16 is 2.77
    assert all(r.fused < r.spelt_out for r in rows)


def test_cross_entropy_spelt_out_is_cross_entropy(reproduce: ModuleType) -> None:
    logits, classes = torch.randn(5, 3), torch.tensor([0, 2, 1, 1, 0])
    assert torch.allclose(reproduce.spelt_out(logits, classes), F.cross_entropy(logits, classes))


def test_sequences_repeat_their_first_token_once_or_not_at_all(reproduce: ModuleType) -> None:
    x, y = reproduce.first_token_repeated(200, 0)
    assert ((x == x[:, :1]).sum(1) - 1).tolist() == y.tolist()
    assert 60 < int(y.sum()) < 140


def test_every_token_is_told_its_branch(reproduce: ModuleType) -> None:
    torch.manual_seed(0)
    model = reproduce.Encoder(width=4)
    rows = reproduce.branches(model, *(part[:2] for part in reproduce.first_token_repeated(8, 0)))
    assert {r.role for r in rows} >= {"all tokens", "first token", "other tokens"}
    for row in rows:
        assert set(row.won) == {"key", "value", "query", "skip"}
        assert sum(row.won.values()) == pytest.approx(1.0)
