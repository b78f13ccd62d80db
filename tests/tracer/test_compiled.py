"""What is kept of the compiled kernels on the disk holds only as long as none of their sources changes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from gradtrace.tracer.kernels import compiled

CALLER = """
from compiled import entry
from called import added

@entry
def total(x):
    return x + added(x)

if __name__ == "__main__":
    print(total(1), sum(total.stats.cache_hits.values()))
"""
CALLED = """
from compiled import inner

@inner
def added(x):
    return x + {constant}
"""


def ran(folder: Path) -> list[str]:
    done = subprocess.run([sys.executable, "caller.py"], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_a_change_of_what_is_called_compiles_the_caller_again(tmp_path: Path) -> None:
    shutil.copy(Path(str(compiled.__file__)), tmp_path / "compiled.py")
    (tmp_path / "caller.py").write_text(CALLER)
    (tmp_path / "called.py").write_text(CALLED.format(constant=10))
    assert ran(tmp_path) == ["12", "0"]
    assert ran(tmp_path) == ["12", "1"], "what is on the disk is used"
    (tmp_path / "called.py").write_text(CALLED.format(constant=20))
    assert ran(tmp_path) == ["22", "0"]
