"""Checkpoints: everything that training needs to go on bit for bit, in one file of safetensors and JSON.

A checkpoint holds the model, the optimizer, the scheduler, the gradient scaler and whatever else the workload names, the
random states of torch, numpy and Python, and the position in the data. No pickle is written or read. A file appears whole
or not at all: it is written under another name, forced to the disk, and renamed. What is read is checked (digest, run,
spec, names, shapes, types) before a single weight is touched.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from gradtrace.service.spec import RunSpec
from gradtrace.service.state_codec import decode, encode, random_states, set_random_states
from gradtrace.service.workloads.instance import WorkloadInstance
from gradtrace.tracer.errors import CheckpointError, CheckpointNameError

FORMAT = 1
SUFFIX = ".safetensors"
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,149}")
_NAME = re.compile(r"[0-9]{10}-([0-9]{1,19})\.safetensors")
META = "gradtrace"
"""Key of a checkpoint's metadata, by which gradtrace's own are known."""
_PART = ".part"


@dataclass(frozen=True, slots=True)
class Position:
    """Where a run is.

    Attributes:
        step: optimizer steps taken.
        traced: of these, traced ones.
        threads: torch's thread count during them, which the rounding of sums depends on.
    """

    step: int
    traced: int
    threads: int


def checkpoint_name(step: int, fence: int) -> str:
    """Name of a checkpoint inside its run's folder.

    >>> checkpoint_name(120, 3)
    '0000000120-3.safetensors'
    """
    return f"{step:010d}-{fence}{SUFFIX}"


def checkpoint_path(root: Path, run: str, name: str) -> Path:
    """Where a run's checkpoint lies. Neither name can lead out of `root`.

    Raises:
        CheckpointNameError: a name is none that gradtrace gives, or a link leads elsewhere.
    """
    if not _RUN.fullmatch(run) or ".." in run:
        raise CheckpointNameError(f"{run[:80]!r} is no id of a run that can have checkpoints.")
    if not _NAME.fullmatch(name):
        raise CheckpointNameError(f"{name[:80]!r} is no name of a checkpoint, as {checkpoint_name(120, 3)!r} is.")
    path = root / run / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise CheckpointNameError(f"The checkpoint {run}/{name} leads out of {root} by a link. Remove the link.")
    return path


def save(path: Path, run: str, spec: RunSpec, instance: WorkloadInstance, position: Position) -> None:
    """Write a checkpoint of a run that stands between two steps.

    Raises:
        CheckpointError: the state holds something that is neither a tensor nor plain data, or the disk refuses it. What
            was at `path` before is there still.
    """
    tensors: dict[str, torch.Tensor] = {}
    state = encode({**_state(instance), "random": random_states()}, "", tensors)
    meta = {
        "format": FORMAT,
        "run": run,
        "spec": spec_digest(spec),
        "step": position.step,
        "traced": position.traced,
        "threads": position.threads,
        "torch": torch.__version__,
        "state": state,
    }
    text = json.dumps(meta, sort_keys=True)
    # A copy each: safetensors refuses tensors that share memory, as tied weights do.
    plain = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_PART}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        save_file(plain, part, metadata={META: text, "digest": _digest(text, plain)})
        _force(part)
        os.replace(part, path)
        _force(path.parent)
    except (OSError, SafetensorError) as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise CheckpointError(
            f"The checkpoint {path} of step {position.step} cannot be written ({error}). The one before it stands. Make "
            "room, or name another folder by GRADTRACE_CHECKPOINTS."
        ) from error


def load(path: Path, run: str, spec: RunSpec, instance: WorkloadInstance) -> Position:
    """Put a checkpoint's state into a newly built workload, and the random states into this process.

    Raises:
        CheckpointError: there is none, it is torn, of another run, another spec or another model; `instance` and the
            random states are then as they were.
    """
    meta, tensors = _read(path)
    if meta.get("run") != run:
        raise CheckpointError(f"The checkpoint {path} is of run {str(meta.get('run'))[:80]!r}, not of {run!r}.")
    if meta.get("spec") != spec_digest(spec):
        raise CheckpointError(
            f"The checkpoint {path} was made under another spec than run {run!r} has now (other hyperparameters or other "
            "tracing). Submit a new run."
        )
    try:
        step, traced, threads = (int(meta[name]) for name in ("step", "traced", "threads"))
        state = decode(meta["state"], tensors)
        given, random = {k: v for k, v in state.items() if k != "random"}, state["random"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"The checkpoint {path} does not hold what it should ({error!r}).") from error
    _check_model(path, instance, given)
    try:
        _restore(instance, given)
        set_random_states(random)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"The checkpoint {path} does not fit the workload {spec.workload}: {error}") from error
    return Position(step, traced, threads)


def prune(root: Path, run: str, keep: frozenset[str], fence: int) -> None:
    """Remove a run's checkpoints but those named, and what an interrupted write left behind.

    Args:
        root: folder of all checkpoints.
        run: whose.
        keep: names to keep.
        fence: of the worker that does this; what later ones wrote is none of its business.
    """
    folder = root / run
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            found = _NAME.fullmatch(path.name.removeprefix(".").split(SUFFIX)[0] + SUFFIX)
            if found and path.name not in keep and int(found[1]) <= fence:
                path.unlink(missing_ok=True)


def spec_digest(spec: RunSpec) -> str:
    """Hex digest of what a spec says; one version's checkpoints are good for the next (see `RunSpec.identity`)."""
    return hashlib.sha256(spec.identity.encode()).hexdigest()


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The parameters and buffers of the model in a checkpoint, by name; its digest is checked.

    Raises:
        CheckpointError: there is none, or it is torn.
    """
    meta, tensors = _read(path)
    found: dict[str, torch.Tensor] = decode(meta["state"], tensors)["model"]
    return found


def _state(instance: WorkloadInstance) -> dict[str, Any]:
    """What changes while a workload trains."""
    state: dict[str, Any] = {
        "model": instance.model.state_dict(),
        "optimizer": instance.optimizer.state_dict(),
        "buffers": dict(_unsaved_buffers(instance)),
    }
    for name, part in _parts(instance):
        state[name] = part.state_dict()
    return state


def _restore(instance: WorkloadInstance, state: dict[str, Any]) -> None:
    instance.model.load_state_dict(state["model"])
    instance.optimizer.load_state_dict(state["optimizer"])
    with torch.no_grad():
        for name, buffer in _unsaved_buffers(instance):
            buffer.copy_(state["buffers"][name])
    for name, part in _parts(instance):
        part.load_state_dict(state[name])


def _parts(instance: WorkloadInstance) -> Iterator[tuple[str, Any]]:
    """Everything beside model and optimizer that has a state, by name."""
    if instance.scheduler is not None:
        yield "scheduler", instance.scheduler
    if instance.scaler is not None:
        yield "scaler", instance.scaler
    for name, part in sorted(instance.stateful.items()):
        yield f"stateful.{name}", part


def _unsaved_buffers(instance: WorkloadInstance) -> Iterator[tuple[str, torch.Tensor]]:
    """Buffers that `state_dict` leaves out."""
    kept = instance.model.state_dict()
    return ((name, b) for name, b in instance.model.named_buffers() if name not in kept)


def _check_model(path: Path, instance: WorkloadInstance, given: dict[str, Any]) -> None:
    """Compare names, shapes and types before anything is changed."""
    wanted = _state(instance)
    if set(given) != set(wanted):
        raise CheckpointError(f"The checkpoint {path} holds {sorted(given)}, expected {sorted(wanted)}.")
    for part in ("model", "buffers"):
        if set(given[part]) != set(wanted[part]):
            odd = sorted(set(given[part]) ^ set(wanted[part]))[0]
            raise CheckpointError(f"The checkpoint {path} is of another model: {odd!r} is in only one of the two.")
        for name, here in wanted[part].items():
            there = given[part][name]
            if isinstance(here, torch.Tensor) and (
                not isinstance(there, torch.Tensor) or there.shape != here.shape or there.dtype != here.dtype
            ):
                raise CheckpointError(
                    f"The checkpoint {path} is of another model: {name!r} is {_about(there)} there, {_about(here)} here."
                )


def _about(value: object) -> str:
    return f"{value.dtype}{list(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except FileNotFoundError:
        raise CheckpointError(
            f"The checkpoint {path} is not there. Workers need the folder of checkpoints in common: is this the machine "
            "that made it, and does GRADTRACE_CHECKPOINTS name the same folder? `gradtrace resume --from-start` begins "
            "the run anew."
        ) from None
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"The checkpoint {path} is torn or no checkpoint ({error}). {_AGAIN}") from error
    text = about.get(META, "")
    if about.get("digest") != _digest(text, tensors):
        raise CheckpointError(f"The checkpoint {path} is damaged: its digest does not match its content. {_AGAIN}")
    meta = json.loads(text)
    if meta.get("format") != FORMAT:
        raise CheckpointError(
            f"The checkpoint {path} has format {meta.get('format')!r}; this version of gradtrace reads {FORMAT}. {_AGAIN}"
        )
    return meta, tensors


_AGAIN = "`gradtrace resume --from-start` begins the run anew."


def _digest(text: str, tensors: dict[str, torch.Tensor]) -> str:
    """Hex digest of metadata and tensors."""
    total = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        if tensor.numel():
            total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def _force(path: Path) -> None:
    """Have the system write a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
