"""The notebook of a whole investigation runs from its first cell to its last, with the assertions in it, and shows its drawings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest

if TYPE_CHECKING:
    from gradtrace.service.local import ServerInfo

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "investigation.ipynb"
SECONDS = 500  # on a machine that has other things to do


@pytest.mark.full
def test_the_notebook_runs_to_its_conclusion(clean_store: ServerInfo, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "GRADTRACE_NEO4J_URI": clean_store.uri,
        "GRADTRACE_NEO4J_USER": clean_store.user,
        "GRADTRACE_NEO4J_PASSWORD": clean_store.password,
        "IPYTHONDIR": str(tmp_path),
        "JUPYTER_DATA_DIR": str(tmp_path),  # no kernel but that of the Python which runs the tests
    }
    # A process of its own, as its reader would have: the machinery of Jupyter leaves sockets and loops behind.
    execute, done = Path(sys.executable).with_name("jupyter-execute"), tmp_path / "done.ipynb"
    command = [execute, NOTEBOOK, "--kernel_name=python3", "--output", done]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert ran.returncode == 0, ran.stderr[-5000:]
    notebook = nbformat.read(done, as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    assert not [output for output in outputs if output.get("name") == "stderr"]
    said = "".join(output["text"] for output in outputs if output.get("name") == "stdout")
    assert "here the traces and the ablation agree" in said


def test_the_notebook_is_kept_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) > 5 and not [cell for cell in code if cell.outputs or cell.execution_count is not None]
