"""Neo4j's files: fetched whole, checked before use, refused when wrong."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path

import pytest

from gradtrace.service.local import jars
from gradtrace.service.local.jars import ensure_jars, locked_jars
from gradtrace.tracer.errors import StoreError, StoreFilesError
from tests.service.local.support import linked_cache, python, until

SMALL = sorted(locked_jars(), key=lambda jar: jar.size)[:3]
FETCH = "from gradtrace.service.local.jars import ensure_jars; print(len(ensure_jars()))"


def test_lock_file_names_every_file_once() -> None:
    locked = locked_jars()
    assert len(locked) == 155
    assert len({jar.filename for jar in locked}) == len(locked)
    assert all(len(bytes.fromhex(jar.sha256)) == 32 and jar.size > 0 for jar in locked)


def test_tampered_file_is_refused_removed_and_fetched_anew(tmp_path: Path) -> None:
    library = linked_cache(tmp_path)
    victim = library / SMALL[0].filename
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.unlink()  # never write through the hard link
    victim.write_bytes(content)
    with pytest.raises(
        StoreFilesError, match=f"(?s){SMALL[0].filename}.*sha256 {SMALL[0].sha256}.*run the command again"
    ):
        ensure_jars(tmp_path)
    assert not victim.exists()
    assert victim in ensure_jars(tmp_path)
    assert hashlib.sha256(victim.read_bytes()).hexdigest() == SMALL[0].sha256


def test_download_with_another_digest_never_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = dataclasses.replace(SMALL[0], sha256="0" * 64)
    monkeypatch.setattr(jars, "locked_jars", lambda: (wrong,))
    with pytest.raises(StoreFilesError, match="is not the file that gradtrace expects"):
        ensure_jars(tmp_path)
    assert list(jars.neo4j_folder(tmp_path).rglob("*.jar")) == []


def test_without_a_network_it_says_what_is_missing_and_where_it_belongs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = linked_cache(tmp_path)
    for jar in SMALL[:2]:
        (library / jar.filename).unlink()
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens on the discard port
    with pytest.raises(StoreFilesError, match="Cannot fetch 2 of Neo4j's files") as caught:
        ensure_jars(tmp_path)
    assert all(text in str(caught.value) for text in (str(SMALL[0]), str(library), "GRADTRACE_NEO4J_URI"))


def test_two_processes_fetch_once(tmp_path: Path) -> None:
    library = linked_cache(tmp_path)
    for jar in SMALL:
        (library / jar.filename).unlink()
    both = [python(FETCH, GRADTRACE_CACHE=str(tmp_path)) for _ in range(2)]
    said = [process.communicate(timeout=120) for process in both]
    assert [out for out, _ in said] == ["155\n", "155\n"], said
    assert sum("Fetching" in err for _, err in said) == 1


def test_killed_download_leaves_only_whole_files(tmp_path: Path) -> None:
    folder = jars.neo4j_folder(tmp_path)
    process = python(FETCH, GRADTRACE_CACHE=str(tmp_path))
    assert until(lambda: len(list(folder.glob("lib/*.jar"))) >= 3), "nothing arrived"
    process.kill()
    process.communicate()
    expected = {jar.filename: jar.sha256 for jar in locked_jars()}
    arrived = list(folder.glob("lib/*"))
    assert 3 <= len(arrived) < len(expected), "the kill came too late to show anything"
    for path in arrived:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == expected[path.name]
    assert list(folder.glob("fetching-*")), "the killed process had a scratch folder"
    for path in ensure_jars():  # the rest from the user's cache, but for one
        if path.name != SMALL[0].filename and not (folder / "lib" / path.name).exists():
            (folder / "lib" / path.name).write_bytes(path.read_bytes())
    (folder / "lib" / SMALL[0].filename).unlink(missing_ok=True)
    assert len(ensure_jars(tmp_path)) == len(expected)
    assert not list(folder.glob("fetching-*"))


def test_unwritable_cache_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match=r"(?s)Cannot write Neo4j's files.*GRADTRACE_CACHE"):
        ensure_jars(tmp_path / "file")


def test_cache_folder_is_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADTRACE_CACHE", os.fspath(tmp_path))
    assert jars.cache_folder() == tmp_path
