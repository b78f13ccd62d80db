"""Compiles the second device with the C++ compiler of the machine, and makes it known to PyTorch."""

from __future__ import annotations

import shutil
import subprocess
import types
from pathlib import Path

import torch
from torch.utils.cpp_extension import include_paths, library_paths

NAME = "second"


def compiler() -> str | None:
    """The C++ compiler, or None."""
    return shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


def build(folder: Path) -> Path:
    """Compile into a folder; the library."""
    library = folder / "second_device.so"
    includes = [f"-isystem{path}" for path in include_paths()]
    libraries = [flag for path in library_paths() for flag in (f"-L{path}", f"-Wl,-rpath,{path}")]
    source = Path(__file__).with_name("device.cpp")
    command = [str(compiler()), "-shared", "-fPIC", "-std=c++20", "-O1", *includes, str(source), *libraries]
    subprocess.run([*command, "-lc10", "-ltorch_cpu", "-ltorch", "-o", str(library)], check=True, timeout=550)
    return library


def register(library: Path) -> None:
    """Make `torch.device("second")` of the library. A process can have one such device, and cannot lose it again."""
    module = types.ModuleType(f"torch.{NAME}")
    made = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "current_device": lambda: 0,
        "device_count": lambda: 1,
        "set_device": lambda _: None,
        "synchronize": lambda *_: None,
        "_is_in_bad_fork": lambda: False,
        "manual_seed_all": lambda _: None,
        "get_amp_supported_dtype": lambda: [torch.float16],
    }
    for name, value in made.items():
        setattr(module, name, value)
    torch.utils.rename_privateuse1_backend(NAME)
    torch._register_device_module(NAME, module)
    torch.ops.load_library(str(library))
