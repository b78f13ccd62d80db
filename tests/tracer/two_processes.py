"""One of two processes of a data-parallel training: `python -m tests.tracer.two_processes FOLDER RANK`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from gradtrace.tracer import Tracer, trace


def net() -> nn.Module:
    """The same in every process."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2)).double()


def main(folder: Path, rank: int) -> None:
    """Compare a traced data-parallel step with a plain one, and its trace with that of this process's batch alone."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=(folder / "meeting").as_uri(), rank=rank, world_size=2)
    batch = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(rank))
    plain = DistributedDataParallel(net())
    plain(batch).square().sum().backward()
    wanted = [p.grad for p in plain.parameters()]

    model = net()
    alone = trace(lambda: model(batch).square().sum(), model)
    spread = DistributedDataParallel(net())
    with Tracer(spread, every=1).step() as step:
        step.backward(spread(batch).square().sum())
    got = [p.grad for p in spread.parameters()]
    for a, b in zip(wanted, got, strict=True):
        assert a is not None and b is not None
        assert torch.equal(a, b)
    rows = step.traces["training"].parameters()
    assert [r.parameter for r in rows] == [f"module.{name}" for name, _ in net().named_parameters()]
    assert [r.mass for r in rows] == [r.mass for r in alone.parameters()]
    assert [r.strongest.vertices for r in rows] == [r.strongest.vertices for r in alone.parameters()]
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
