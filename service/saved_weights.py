"""Weights that somebody saved while training: files of a folder, with the steps at which they were saved.

Read are safetensors files and what `torch.save` writes, the latter by `weights_only`, so that no file can run code.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from gradtrace.service.checkpoint import META, read_weights
from gradtrace.tracer.errors import CheckpointError

SAFETENSORS = (".safetensors",)
TORCH = (".pt", ".pth", ".ckpt", ".bin")
_MODEL_KEYS = ("model", "state_dict", "model_state_dict")
_STEP_KEYS = ("step", "global_step", "iteration")
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Saved:
    """One file: the step at which its weights were saved, and the epoch where it says so."""

    path: Path
    step: int
    epoch: int

    def weights(self) -> dict[str, torch.Tensor]:
        """Parameters and buffers by name.

        Raises:
            CheckpointError: the file is torn, or holds no weights.
        """
        return _content(self.path)[0]


def saved_in(folder: Path) -> list[Saved]:
    """The files of a folder that hold weights, by step.

    The step is what the file's metadata call `step`, `global_step` or `iteration`, else the last number of its name.

    Raises:
        CheckpointError: there is no such folder, it has no such file, one has no number, two have the same, or one is torn.
    """
    kinds = SAFETENSORS + TORCH
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder} is no folder. Name the folder in which the checkpoints lie ({', '.join(kinds)})."
        )
    paths = sorted(p for p in folder.iterdir() if p.suffix in kinds and not p.name.startswith(".") and p.is_file())
    if not paths:
        raise CheckpointError(f"{folder} has no checkpoint: no file that ends in {', '.join(kinds)}.")
    found: dict[int, Saved] = {}
    for path in paths:
        saved = _numbered(path)
        if saved.step in found:
            raise CheckpointError(
                f"{path.name} and {found[saved.step].path.name} in {folder} are both of step {saved.step}. Leave one of them out."
            )
        found[saved.step] = saved
    return [found[step] for step in sorted(found)]


def check_fits(saved: Saved, model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights of a file, if they are those of such a model: the same names and shapes.

    Raises:
        CheckpointError: they are not; the message names the first that differs.
    """
    given, wanted = saved.weights(), model.state_dict()
    for name in (*wanted, *given):
        here, there = wanted.get(name), given.get(name)
        if here is None or there is None or here.shape != there.shape:
            shapes = ["missing" if t is None else str(tuple(t.shape)) for t in (there, here)]
            raise CheckpointError(
                f"{saved.path} is of another model: {name!r} is {shapes[0]} there and {shapes[1]} in the model. Set the "
                "hyperparameters with which it was trained (--set name=value)."
            )
    return given


def _numbered(path: Path) -> Saved:
    _, about = _content(path)
    told = next((about[key] for key in _STEP_KEYS if str(about.get(key, "")).isdecimal()), None)
    numbers = _NUMBER.findall(path.name.removesuffix(path.suffix))
    if told is None and not numbers:
        raise CheckpointError(
            f"Nothing says of which step {path} is. Give it a name with the number (step-{120}{path.suffix}), or metadata `step`."
        )
    epoch = about.get("epoch", 0)
    return Saved(path, int(told if told is not None else numbers[-1]), int(epoch) if str(epoch).isdecimal() else 0)


def _content(path: Path) -> tuple[dict[str, torch.Tensor], Mapping[str, Any]]:
    """Weights by name, and what else the file says."""
    try:
        if path.suffix in SAFETENSORS:
            with safe_open(path, framework="pt") as file:
                about = file.metadata() or {}
                if META not in about:
                    return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118 (it is no mapping)
            return read_weights(path), {"step": path.name.partition("-")[0]}  # gradtrace's own
        given = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors and plain data, or is torn, and is not read, since it could run code "
            f"({str(error).splitlines()[0]}). Save model.state_dict() alone."
        ) from error
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(f"{path} is torn or no checkpoint ({str(error).splitlines()[0]}).") from error
    about = given if isinstance(given, Mapping) else {}
    weights = next((about[key] for key in _MODEL_KEYS if isinstance(about.get(key), Mapping)), given)
    if (
        not isinstance(weights, Mapping)
        or not all(isinstance(t, torch.Tensor) for t in weights.values())
        or not weights
    ):
        raise CheckpointError(
            f"{path} holds no weights by name. Save model.state_dict(), or a dict that has it under {' or '.join(_MODEL_KEYS)}."
        )
    return dict(weights), about
