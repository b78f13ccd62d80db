"""The experiments of Du et al. at reduced size: what they are to show can be seen there already."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from statistics import stdev
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F

SCRIPT = Path(__file__).parents[2] / "examples" / "du2023" / "reproduce.py"
README = SCRIPT.with_name("README.md")
SEEDS = (0, 1, 2)


def told(after: str) -> dict[str, list[float]]:
    """First column → the numbers beside it, of the README's first table after some text; percentages as parts of one."""
    lines = README.read_text(encoding="utf-8").partition(after)[2].splitlines()
    table = re.search(r"(?:^\|.*\n?)+", "\n".join(lines), re.MULTILINE)
    assert table is not None, after
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.group().splitlines()[2:]]
    return {row[0]: [float(cell.rstrip("%")) / (100 if cell.endswith("%") else 1) for cell in row[1:]] for row in rows}


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


@pytest.mark.full
def test_the_readme_says_what_entropies_there_are(reproduce: ModuleType) -> None:
    """What the script prints by itself. Rounding differs between processors, by far less than between seeds."""
    rows = {str(r.hidden): r for r in reproduce.entropy_table(reproduce.HIDDEN, seeds=len(SEEDS))}
    said = told("## Entropy against the size")
    assert list(said) == list(rows)
    for size, (published, spelt_out, fused, accuracy) in said.items():
        assert published == reproduce.PUBLISHED[int(size)]
        assert rows[size].spelt_out == pytest.approx(spelt_out, abs=0.05)
        assert rows[size].fused == pytest.approx(fused, abs=0.05)
        assert rows[size].accuracy == pytest.approx(accuracy, abs=0.03)
        assert abs(spelt_out - published) < 0.145  # "agree with the published ones to 0.14 at every size"
        assert 0.85 < spelt_out - fused < 1.1  # "one nat lower throughout"


@pytest.mark.full
def test_the_readme_says_how_far_entropies_differ_between_seeds(reproduce: ModuleType) -> None:
    for size, least, most in ((4, 0.25, 0.45), (128, 0.0, 0.1)):
        runs = [reproduce.entropy_of(size, seed) for seed in SEEDS]
        for entropies in ([r.spelt_out for r in runs], [r.fused for r in runs]):
            assert least < stdev(entropies) < most, size


@pytest.mark.full
@pytest.mark.parametrize("seed", SEEDS)
def test_keys_carry_the_largest_product_of_most_tokens(reproduce: ModuleType, seed: int) -> None:
    """As the README says, exceptions included: not of the first token, nor of its repetition."""
    accuracy, rows = reproduce.keys_experiment(seed)
    assert accuracy > 0.98
    said = told(f"Seed {seed}, accuracy")
    found = {r.role: r for r in rows}
    assert list(said) == list(found)
    for role, numbers in said.items():
        for branch, won in zip(reproduce.BRANCHES, numbers[:4], strict=True):
            assert found[role].won[branch] == pytest.approx(won, abs=0.1), (role, branch)
    ahead = {"all tokens": "key", "first token": "skip", "its repetition": "value", "other tokens": "key"}
    assert {role: max(r.won, key=r.won.__getitem__) for role, r in found.items()} == ahead
    # The mean of the products is another matter: there the first token outweighs all others.
    assert {role: max(r.product, key=r.product.__getitem__) for role, r in found.items()} == {
        **ahead,
        "all tokens": "skip",
    }
