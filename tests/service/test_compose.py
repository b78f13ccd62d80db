"""docker-compose.yml and Dockerfile, as far as they can be held to their word where there is no Docker."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
from ruamel.yaml import YAML

from gradtrace.service.broker import given_url
from gradtrace.service.cli.app import COMMANDS
from gradtrace.service.local import bolt
from gradtrace.service.local.jars import NEO4J_VERSION
from gradtrace.service.local.valkey import binary
from gradtrace.service.local.valkey_home import _SETTINGS, MAX_MEMORY
from gradtrace.service.settings import PREFIX, Settings, load_settings
from tests.service.local.support import until

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker-compose.yml"
PASSWORDS = {"GRADTRACE_NEO4J_PASSWORD": "n30-pl4nted", "GRADTRACE_REDIS_PASSWORD": "r3d-pl4nted"}
_VARIABLE = re.compile(r"\$(\$|\{(?P<name>[A-Z0-9_]+)(?P<rest>[^}]*)\}|[A-Za-z_])")


class MissingError(Exception):
    """Compose would refuse to start."""


def interpolated(value: Any, environment: dict[str, str]) -> Any:
    """What Compose makes of `${NAME:?message}` and `$$`; any other form is refused, since it could have a default."""
    if isinstance(value, dict):
        return {key: interpolated(one, environment) for key, one in value.items()}
    if isinstance(value, list):
        return [interpolated(one, environment) for one in value]
    if not isinstance(value, str):
        return value

    def put(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        assert match["name"] and match["rest"].startswith(":?") and len(match["rest"]) > 10, match[0]
        if not environment.get(match["name"]):
            raise MissingError(match["rest"][2:])
        return environment[match["name"]]

    return _VARIABLE.sub(put, value)


@pytest.fixture(scope="module")
def written() -> dict[str, Any]:
    """The file as it stands, anchors resolved."""
    found: dict[str, Any] = YAML(typ="safe", pure=True).load(COMPOSE.read_text("utf-8"))
    return found


@pytest.fixture(scope="module")
def compose(written: dict[str, Any]) -> dict[str, Any]:
    """The file with the passwords put in."""
    found: dict[str, Any] = interpolated(written, PASSWORDS)
    return found


def schema_check(path: Path) -> subprocess.CompletedProcess[str]:
    """Hold a file against the schema of the Compose specification, which the package check-jsonschema brings."""
    program = Path(sys.executable).with_name("check-jsonschema")
    return subprocess.run(
        [program, "--builtin-schema", "vendor.compose-spec", path], capture_output=True, text=True, check=False
    )


def test_it_fits_the_schema_of_the_specification(tmp_path: Path) -> None:
    done = schema_check(COMPOSE)
    assert done.returncode == 0, done.stdout
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text(COMPOSE.read_text().replace("restart: unless-stopped", "restarts: unless-stopped"))
    assert schema_check(wrong).returncode != 0, "the check can fail"


@pytest.mark.parametrize("left_out", PASSWORDS)
def test_it_refuses_to_start_without_a_password(written: dict[str, Any], left_out: str) -> None:
    for environment in ({**PASSWORDS, left_out: ""}, {k: v for k, v in PASSWORDS.items() if k != left_out}):
        with pytest.raises(MissingError, match=r"set a password for (Neo4j|Redis) in \.env"):
            interpolated(written, environment)


def test_there_is_no_default_password(written: dict[str, Any]) -> None:
    secret = re.compile(r"password|requirepass|auth\b|AUTH", re.IGNORECASE)
    for service in written["services"].values():
        for name, value in service.get("environment", {}).items():
            if secret.search(name):
                assert "${GRADTRACE_" in value, name
    assert 'requirepass "${GRADTRACE_REDIS_PASSWORD:?' in written["configs"]["redis"]["content"]


def test_secrets_are_on_no_command_line(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        said = f"{service.get('command')} {service.get('entrypoint')} {service['healthcheck']['test']}"
        assert not any(secret in said for secret in PASSWORDS.values())


def test_the_worker_is_set_up_by_known_settings(compose: dict[str, Any]) -> None:
    environment = compose["services"]["worker"]["environment"]
    ours = re.findall(r"\b(GRADTRACE_[A-Z0-9_]+)=", (ROOT / "Dockerfile").read_text()) + list(environment)
    assert {name.removeprefix(PREFIX).lower() for name in ours} <= set(Settings.model_fields), ours
    settings = load_settings({name: str(value) for name, value in environment.items()})
    services = compose["services"]
    assert settings.neo4j_uri == "bolt://neo4j:7687" and "neo4j" in services
    assert (
        given_url(settings) == f"redis://:{PASSWORDS['GRADTRACE_REDIS_PASSWORD']}@redis:6379/0" and "redis" in services
    )
    assert settings.neo4j_password is not None
    user, _, password = services["neo4j"]["environment"]["NEO4J_AUTH"].partition("/")
    assert (settings.neo4j_user, settings.neo4j_password.get_secret_value()) == (user, password)


def test_workers_take_their_other_settings_from_the_same_file(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        wanted = [{"path": ".env", "required": False}] if name == "worker" else None
        assert service.get("env_file") == wanted, name


def test_every_variable_that_it_asks_for_is_a_setting() -> None:
    asked = {match["name"] for match in _VARIABLE.finditer(COMPOSE.read_text()) if match["name"]}
    assert asked == set(PASSWORDS)
    assert {name.removeprefix(PREFIX).lower() for name in asked} <= set(Settings.model_fields)


def test_ports_are_on_the_loopback_interface(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 3 and all(re.fullmatch(r"127\.0\.0\.1:[0-9]+:[0-9]+", port) for port in ports)


def test_every_service_is_checked_kept_and_stored(compose: dict[str, Any]) -> None:
    mounted = set()
    for name, service in compose["services"].items():
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL"), name
        assert service["restart"] == "unless-stopped", name
        mounted |= {volume.partition(":")[0] for volume in service["volumes"]}
    assert mounted == set(compose["volumes"])
    waits = compose["services"]["worker"]["depends_on"]
    assert waits == {"neo4j": {"condition": "service_healthy"}, "redis": {"condition": "service_healthy"}}


def test_images_are_official_and_the_database_is_the_tested_one(compose: dict[str, Any]) -> None:
    assert compose["services"]["neo4j"]["image"] == f"neo4j:{NEO4J_VERSION}-community"
    assert re.fullmatch(r"redis:[0-9.]+-alpine", compose["services"]["redis"]["image"])


def lines(configuration: str) -> dict[str, str]:
    """Names and values of a configuration of Redis."""
    pairs = (line.partition(" ") for line in configuration.splitlines() if line and not line.startswith("#"))
    return {name: value.strip() for name, _, value in pairs}


def test_redis_keeps_the_promises_of_the_embedded_valkey(compose: dict[str, Any]) -> None:
    theirs, ours = lines(compose["configs"]["redis"]["content"]), lines(_SETTINGS.replace("{memory}", MAX_MEMORY))
    promised = ("appendonly", "appendfsync", "save", "maxmemory", "maxmemory-policy")
    assert {name: theirs[name] for name in promised} == {name: ours[name] for name in promised}
    assert theirs["maxmemory-policy"] == "noeviction" and theirs["appendonly"] == "yes"


def test_a_real_server_takes_the_configuration_of_redis(compose: dict[str, Any], tmp_path: Path) -> None:
    port = bolt.free_port()
    configuration = compose["configs"]["redis"]["content"]
    configuration = configuration.replace("port 6379", f"port {port}").replace("dir /data", f"dir {tmp_path}")
    configuration = configuration.replace("bind * -::*", "bind 127.0.0.1")
    assert str(port) in configuration and str(tmp_path) in configuration and "127.0.0.1" in configuration
    (tmp_path / "redis.conf").write_text(configuration)
    server = subprocess.Popen(
        [binary(), tmp_path / "redis.conf"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        with redis.Redis(port=port, password=PASSWORDS["GRADTRACE_REDIS_PASSWORD"], decode_responses=True) as client:
            assert until(lambda: answers(client), 20)
            assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
            assert client.config_get("appendonly")["appendonly"] == "yes"
        with redis.Redis(port=port) as client, pytest.raises(redis.AuthenticationError):
            client.ping()
    finally:
        server.terminate()
        server.communicate(timeout=20)


def answers(client: redis.Redis) -> bool:
    """Whether the server is up."""
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def test_the_image_runs_commands_that_exist(compose: dict[str, Any]) -> None:
    worker = compose["services"]["worker"]
    text = (ROOT / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["gradtrace"]' in text
    (default,) = re.findall(r'^CMD \["(\w+)"\]$', text, re.MULTILINE)
    for command in (default, worker["command"][0], worker["healthcheck"]["test"][2]):
        assert command in COMMANDS
    assert worker["healthcheck"]["test"] == ["CMD", "gradtrace", "status", "--here"], "another's worker is no comfort"
    assert re.search(r"^USER (?!root)\w+$", text, re.MULTILINE)


def test_what_is_copied_into_the_image_is_enough_to_install_it(tmp_path: Path) -> None:
    """The context as .dockerignore leaves it, the files as COPY puts them, and the same `pip install` without network."""
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    image, target = tmp_path / "src", tmp_path / "site"
    image.mkdir()
    copies = [line.split()[1:] for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("COPY ")]
    assert len(copies) >= 4
    for *sources, destination in copies:
        for source in sources:
            assert source in allowed, f".dockerignore keeps {source} out"
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, image / destination, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, image / destination)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", target, "."], cwd=image, check=True, capture_output=True)
    code = (
        "import gradtrace.service.cli as c; from gradtrace.queries.registry import registry; "
        "print(len(registry()) > 10, c.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["True", str(target / "gradtrace/service/cli/__init__.py")], done.stderr
