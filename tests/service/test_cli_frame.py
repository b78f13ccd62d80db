"""The frame of the command line: help, versions, quick starts, exit statuses, formats, pipes, completion."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import click
import pytest

from gradtrace.service.cli.app import COMMANDS, cli
from gradtrace.service.cli.failures import exit_status
from gradtrace.service.cli.output import text_of, to_json
from gradtrace.tracer import errors
from tests.service.cli import COMMAND, completions, environment, gradtrace, ok, refused

HEAVY = ("torch", "neo4j", "numba", "numpy", "sklearn", "rich", "pydantic")


def all_commands() -> list[tuple[str, ...]]:
    """Every command and subcommand as a line of words, the bare program first."""
    found: list[tuple[str, ...]] = [()]
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        found.append((name,))
        if isinstance(command, click.Group):
            found += [(name, sub) for sub in command.commands]
    return found


@pytest.mark.parametrize("words", all_commands(), ids=" ".join)
def test_every_command_has_help_with_examples(words: tuple[str, ...]) -> None:
    done = gradtrace(*words, "--help")
    text = ok(done)
    assert done.stderr == ""
    examples = text.partition("Examples:")[2].partition("Options:")[0]
    assert " ".join(["gradtrace", *words]) in examples
    assert max(len(line) for line in text.splitlines()) <= 100


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"], ["query", "--help"], ["db", "-h"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from gradtrace.service.cli import main\n"
        "try:\n"
        f"    main({arguments!r})\n"
        "except SystemExit as end:\n"
        f"    print('status', end.code, 'loaded', sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stderr == "status 0 loaded []\n"


def test_the_schema_is_told_in_every_form_without_a_server() -> None:
    nowhere = environment(GRADTRACE_NEO4J_URI="bolt://127.0.0.1:9", GRADTRACE_NEO4J_PASSWORD="x")
    listed = json.loads(ok(gradtrace("schema", "--format", "json", env=nowhere)))
    lines = [json.loads(line) for line in ok(gradtrace("schema", "--format", "ndjson", env=nowhere)).splitlines()]
    table = list(csv.DictReader(ok(gradtrace("schema", "--format", "csv", env=nowhere)).splitlines()))
    assert listed == lines and [r["meaning"] for r in listed] == [r["meaning"] for r in table]
    kinds = {r["kind"] for r in listed}
    assert kinds == {"label", "relationship", "idiom"}
    text = ok(gradtrace("schema", env=nowhere))
    for row in listed:
        assert (row["property"] or row["cypher"] or row["pattern"].strip("(:)")) in text
    one = json.loads(ok(gradtrace("schema", "relationships", "--format", "json", env=nowhere)))
    assert one == [r for r in listed if r["kind"] == "relationship"]
    assert "'lables' is not one of" in refused(gradtrace("schema", "lables", env=nowhere), 2)


def test_errors_can_be_caught_without_torch() -> None:
    """Commands that only ask the store must not pay seconds for torch."""
    code = "import sys, gradtrace.tracer.errors; print('torch' in sys.modules, 'numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_version() -> None:
    assert ok(gradtrace("--version")) == f"gradtrace {version('gradtrace')}\n"


def test_unknown_command_lists_the_right_ones() -> None:
    said = refused(gradtrace("quary"), 2)
    assert "There is no command 'quary'. Did you mean query?" in said
    assert all(name in said for name in COMMANDS)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.StoreUnreachableError("x"), 3),
        (errors.QueryRefusedError("x"), 4),
        (errors.StoreAuthError("x"), 4),
        (errors.BudgetError("x"), 4),
        (errors.SpecError("x"), 2),
        (errors.UnknownQueryError("x"), 2),
        (errors.QueryParameterError("x"), 2),
        (errors.QueryTimeoutError("x"), 1),
        (errors.LossError("x"), 1),
        (ValueError("x"), 1),
    ],
)
def test_exit_statuses(error: Exception, status: int) -> None:
    assert exit_status(error) == status


def test_formats_hold_the_same_rows() -> None:
    rows = json.loads(ok(gradtrace("workloads", "--format", "json")))
    assert [r["workload"] for r in rows][:2] == ["char-lstm", "digits-mlp"]
    lines = ok(gradtrace("workloads", "--format", "ndjson")).splitlines()
    assert [json.loads(line) for line in lines] == rows
    table = list(csv.DictReader(ok(gradtrace("workloads", "--format", "csv")).splitlines()))
    assert [{k: str(v) for k, v in r.items()} for r in rows] == table
    shown = ok(gradtrace("workloads"))
    assert all(r["workload"] in shown and r["description"] in shown for r in rows)


def test_notes_go_to_stderr_only() -> None:
    done = gradtrace("workloads", "--format", "json")
    json.loads(ok(done))
    assert "gradtrace workloads char-lstm" in done.stderr


def test_parameters_of_a_workload() -> None:
    rows = json.loads(ok(gradtrace("workloads", "char-lstm", "--format", "json")))
    hidden = next(r for r in rows if r["parameter"] == "hidden")
    assert hidden == {"parameter": "hidden", "type": "int", "default": 64, "description": "width of the LSTM's state"}
    assert "Did you mean digits-mlp" in refused(gradtrace("workloads", "digit-mlp"), 2)


def test_json_is_valid_whatever_the_numbers() -> None:
    text = to_json([float("nan"), float("inf"), -float("inf"), 1.5, None, {"a": (1, "é")}])
    assert json.loads(text) == ["NaN", "Infinity", "-Infinity", 1.5, None, {"a": [1, "é"]}]
    assert text_of(float("inf")) == "inf"


def test_a_closed_pipe_is_no_error() -> None:
    """`| head`: whoever read has seen enough before the command has said all."""
    writer = subprocess.Popen(
        [COMMAND, "workloads", "char-lstm", "--format", "ndjson"],
        env=environment(PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    assert writer.stderr is not None
    writer.stdout.close()
    with writer.stderr:
        said = writer.stderr.read()
    assert writer.wait(60) == 0
    assert said == ""


def test_python_dash_m_is_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gradtrace.service.cli", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("gradtrace ")


def test_completion_of_commands_workloads_parameters_and_options() -> None:
    assert completions(["gradtrace", "ru"]) == ["run", "runs"]
    assert completions(["gradtrace", "run", "digits-m"]) == ["digits-mlp"]
    assert completions(["gradtrace", "run", "digits-mlp", "--set", "la"]) == ["layers="]
    assert completions(["gradtrace", "run", "digits-mlp", "--set", "e"]) == ["epochs="]
    assert completions(["gradtrace", "run", "--set", "e"]) == ["epochs=", "embedding="]
    assert "embedding=" in completions(["gradtrace", "run", "char-lstm", "--set", ""])
    assert completions(["gradtrace", "run", "--batch", "b"]) == ["both"]
    assert completions(["gradtrace", "db", "st"]) == ["start", "status", "stop"]


def test_completion_of_questions() -> None:
    assert "components-by-epoch" in completions(["gradtrace", "query", "comp"])
    assert "run=" in completions(["gradtrace", "query", "components-by-epoch", "-p", "r"])


def test_settings_errors_stop_a_command_before_it_starts(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text('neo4j_url = "bolt://x:1"\n')
    said = refused(gradtrace("query", "components-by-epoch", env=environment(GRADTRACE_SETTINGS=str(path))), 2)
    assert "no setting 'neo4j_url'" in said


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    env = environment(GRADTRACE_SETTINGS=str(tmp_path / "none.toml"))
    assert "Traceback" not in gradtrace("db", "status", env=env).stderr
    assert "Traceback" in gradtrace("--debug", "db", "status", env=env).stderr
