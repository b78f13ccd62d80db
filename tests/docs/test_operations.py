"""docs/operations.md: its table of settings and the metrics that it names, against what there is. Commands: test_snippets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gradtrace.service import metrics
from gradtrace.service.settings import PREFIX, Settings

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
BEGIN, END = "<!-- settings -->\n", "<!-- end of settings -->\n"
OTHER_VARIABLES = {"GRADTRACE_SETTINGS", "GRADTRACE_DEBUG"}


def table() -> str:
    """The table of settings as the model has them."""
    rows = ["| variable | default | what it is |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.get_default()
        shown = (
            ""
            if default is None or default == ()
            else f"`{default:g}`"
            if isinstance(default, float)
            else f"`{default}`"
        )
        about = str(field.description).replace("|", "\\|")
        rows.append(f"| `{PREFIX}{name.upper()}` | {shown} | {about} |")
    return "\n".join(rows) + "\n"


@pytest.fixture(scope="module")
def text() -> str:
    """The document."""
    return DOCUMENT.read_text("utf-8")


def test_the_table_of_settings_is_that_of_the_model(text: str) -> None:
    found = text.partition(BEGIN)[2].partition(END)[0]
    assert found == table(), f"put this between the two marks:\n{table()}"


def test_every_variable_is_a_setting(text: str) -> None:
    named = set(re.findall(r"GRADTRACE_[A-Z0-9_]+", text)) - OTHER_VARIABLES
    assert {name.removeprefix(PREFIX).lower() for name in named} <= set(Settings.model_fields)


def test_every_metric_is_named(text: str) -> None:
    named = {name.removesuffix("_total") for name in re.findall(r"`(gradtrace_\w+)", text)}
    defined = {
        name.removesuffix("_total") for name in re.findall(r"^    (gradtrace_\w+)", metrics.__doc__ or "", re.MULTILINE)
    }
    assert named == defined


def test_files_that_it_names_exist(text: str) -> None:
    root = DOCUMENT.parents[1]
    for name in ("docker-compose.yml", "Dockerfile", "tests/faults"):
        assert f"`{name}`" in text and (root / name).exists()
