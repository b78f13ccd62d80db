"""Settings: what beats what, and that secrets stay hidden."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradtrace.service.settings import load_settings
from gradtrace.tracer.errors import SpecError

PLANTED = "pl4nted-s3cret"


def written(tmp_path: Path, text: str) -> dict[str, str]:
    """An environment whose settings file holds `text`."""
    path = tmp_path / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return {"GRADTRACE_SETTINGS": str(path)}


def test_environment_beats_file_beats_default(tmp_path: Path) -> None:
    environment = written(tmp_path, 'neo4j_uri = "bolt://file:7687"\nneo4j_user = "from-file"\nquery_rows = 7\n')
    environment |= {"GRADTRACE_NEO4J_URI": "neo4j+s://variable:7687", "GRADTRACE_QUERY_ROWS": ""}
    settings = load_settings(environment)
    assert settings.neo4j_uri == "neo4j+s://variable:7687"
    assert settings.neo4j_user == "from-file"
    assert settings.query_rows == 7  # an empty variable is none
    assert settings.query_timeout == 30.0


def test_defaults_need_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert load_settings({}).neo4j_uri is None


def test_a_named_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"GRADTRACE_SETTINGS names .*no-such\.toml, but there is no such file"):
        load_settings({"GRADTRACE_SETTINGS": str(tmp_path / "no-such.toml")})


def test_unknown_setting_lists_the_right_ones(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"no setting 'neo4j_url'. Did you mean neo4j_uri.* Settings: cache, .*data, "):
        load_settings(written(tmp_path, 'neo4j_url = "bolt://x:1"\n'))


def test_wrong_value_names_its_origin_and_not_itself(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"neo4j_uri, from the environment variable GRADTRACE_NEO4J_URI: ") as caught:
        load_settings({"GRADTRACE_NEO4J_URI": f"bolt://neo4j:{PLANTED}@db"})
    assert PLANTED not in str(caught.value)
    with pytest.raises(SpecError, match=r"query_rows, from .*settings\.toml: "):
        load_settings(written(tmp_path, "query_rows = 0\n"))


def test_broken_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"settings\.toml cannot be read: "):
        load_settings(written(tmp_path, "neo4j_uri = \n"))


def test_password_is_never_shown() -> None:
    settings = load_settings({"GRADTRACE_NEO4J_PASSWORD": PLANTED})
    assert settings.neo4j_password is not None
    assert settings.neo4j_password.get_secret_value() == PLANTED
    for shown in (repr(settings), str(settings), repr(settings.model_dump()), settings.model_dump_json()):
        assert PLANTED not in shown
