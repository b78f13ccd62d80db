"""What the tests of the embedded server share."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from neo4j import GraphDatabase

from gradtrace.service.local import ServerInfo
from gradtrace.service.local.jars import NEO4J_VERSION, ensure_jars


def ask(info: ServerInfo, query: str, **parameters: object) -> list[list[object]]:
    """Rows of a query to a server."""
    with GraphDatabase.driver(info.uri, auth=(info.user, info.password)) as driver:
        return [list(row) for row in driver.execute_query(query, parameters, database_="neo4j").records]


def python(code: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Run code in another Python process."""
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code, *arguments],
        stdin=subprocess.PIPE,  # a process that reads it waits until it is told to end
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def until(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Whether a condition comes true within the time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True


def linked_cache(folder: Path) -> Path:
    """A cache of its own with Neo4j's files, hard-linked where the file system can; returns their folder."""
    library = folder / f"neo4j-{NEO4J_VERSION}" / "lib"
    library.mkdir(parents=True)
    for path in ensure_jars():
        try:
            os.link(path, library / path.name)
        except OSError:
            (library / path.name).write_bytes(path.read_bytes())
    return library
