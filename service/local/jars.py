"""Neo4j's own files: fetched once into a per-user cache and checked before every use.

The lock file beside this module lists what the embedded server needs, one artifact a line:
`group:artifact:version[:classifier] sha256 bytes`. Neo4j Community is GPL software; it is fetched by the user's own
machine, runs as a process of its own and is never part of gradtrace's distribution.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from threading import Event

from gradtrace.service.local.progress import Progress, megabytes
from gradtrace.tracer.errors import StoreError, StoreFilesError

NEO4J_VERSION = "2026.08.1"
"""The Neo4j that the lock file describes."""

_THREADS = 8
_ATTEMPTS = 3
_LOCK_WAIT = 1800.0


@dataclass(frozen=True)
class Jar:
    """One artifact of the lock file.

    Attributes:
        group, artifact, version, classifier: its Maven coordinates; the classifier is often empty.
        sha256: hexadecimal digest that the file must have.
        size: its length in bytes.
    """

    group: str
    artifact: str
    version: str
    classifier: str
    sha256: str
    size: int

    @property
    def filename(self) -> str:
        """Name of the file in the cache; unique in the lock file."""
        ending = f"-{self.classifier}" if self.classifier else ""
        return f"{self.artifact}-{self.version}{ending}.jar"

    def __str__(self) -> str:
        return ":".join(filter(None, (self.group, self.artifact, self.version, self.classifier)))


def cache_folder() -> Path:
    """The cache: `GRADTRACE_CACHE`, or the user's cache folder for gradtrace."""
    named = os.environ.get("GRADTRACE_CACHE")
    if named:
        return Path(named).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("gradtrace", appauthor=False))


def neo4j_folder(cache: Path | None = None) -> Path:
    """Where the cache keeps this Neo4j version; its files lie in `lib` below."""
    return (cache or cache_folder()) / f"neo4j-{NEO4J_VERSION}"


def locked_jars() -> tuple[Jar, ...]:
    """What the lock file lists, in its order (which is the class path's order)."""
    text = resources.files("gradtrace.service.local").joinpath(f"neo4j-{NEO4J_VERSION}.lock").read_text("utf-8")
    return tuple(parse(line) for line in text.splitlines() if line and not line.startswith("#"))


def parse(line: str) -> Jar:
    """The file that a line of a lock file names: `group:artifact:version[:classifier] sha256 size`."""
    coordinate, sha256, size = line.split()
    group, artifact, version, *classifier = coordinate.split(":")
    return Jar(group, artifact, version, classifier[0] if classifier else "", sha256, int(size))


def ensure_jars(cache: Path | None = None, *, progress: bool = True) -> list[Path]:
    """Give the server's files, each with the digest that the lock file states; fetch those that are missing.

    Two processes may call this at once: one fetches, the other waits and then finds all in place. A file appears under
    its final name only when it is whole and checked.

    Args:
        cache: root of the cache; `cache_folder()` if None.
        progress: whether to report a download on stderr.

    Returns:
        The files in class path order.

    Raises:
        StoreFilesError: a file is not the one expected (it was removed), or could not be fetched.
        StoreError: the cache folder cannot be written.
    """
    from filelock import FileLock, Timeout

    folder = neo4j_folder(cache)
    library = folder / "lib"
    jars = locked_jars()
    if not _missing(jars, library):
        return _checked(jars, library)
    try:
        library.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "fetch.lock", timeout=_LOCK_WAIT):
            missing = _missing(jars, library)
            if missing:
                _fetch(missing, folder, progress=progress)
                if progress:
                    total = sum(jar.size for jar in jars)
                    Progress.line(f"Neo4j {NEO4J_VERSION}: {len(jars)} files, {megabytes(total)} in {library}")
    except Timeout as error:
        raise StoreFilesError(
            f"Another process has been fetching Neo4j's files into {folder} for {_LOCK_WAIT:.0f} s without an end. "
            f"End that process and try again."
        ) from error
    except OSError as error:
        raise StoreError(
            f"Cannot write Neo4j's files to {folder}: {error.strerror or error}. About "
            f"{megabytes(sum(jar.size for jar in jars))} are needed there. Free some space, make the folder writable, "
            f"or name another one by the environment variable GRADTRACE_CACHE."
        ) from error
    return _checked(jars, library)


def look_at_jars(cache: Path | None = None) -> tuple[list[Jar], list[Jar]]:
    """Those of the server's files that are not in the cache, and those that are not as expected. Changes nothing."""
    library = neo4j_folder(cache) / "lib"
    jars = locked_jars()
    missing = _missing(jars, library)
    spoilt = [j for j in jars if j not in missing and _digest(library / j.filename) != j.sha256]
    return missing, spoilt


def _missing(jars: Sequence[Jar], library: Path) -> list[Jar]:
    return [jar for jar in jars if not (library / jar.filename).is_file()]


def _checked(jars: Sequence[Jar], library: Path) -> list[Path]:
    """Check all digests (hashing drops the interpreter's lock, so threads help)."""
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda jar: verified(jar, library / jar.filename), jars))


def verified(jar: Jar, path: Path) -> Path:
    """Return the path if the file has the digest of the lock file; otherwise remove it and raise."""
    found = _digest(path)
    if found != jar.sha256:
        size = path.stat().st_size
        path.unlink(missing_ok=True)
        raise StoreFilesError(
            f"{path} is not the file that gradtrace expects for {jar}: it has {size} bytes and sha256 {found}, "
            f"expected {jar.size} bytes and sha256 {jar.sha256}. The file was removed; run the command again to fetch "
            f"it anew. If this happens again, something between this machine and the package repository changes files."
        )
    return path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(missing: list[Jar], folder: Path, *, progress: bool) -> None:
    """Fetch files side by side into a scratch folder, and move each to its place once it is checked."""
    for left_over in folder.glob("fetching-*"):  # of a process that was killed: we hold the lock
        shutil.rmtree(left_over, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix="fetching-", dir=folder))
    size = sum(jar.size for jar in missing)
    try:
        with (
            Progress(f"Fetching Neo4j {NEO4J_VERSION} (once)", size, len(missing), shown=progress) as bar,
            ThreadPoolExecutor(_THREADS) as pool,
        ):
            given_up = Event()
            try:
                futures = [pool.submit(_fetch_one, jar, scratch, folder / "lib", bar, given_up) for jar in missing]
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            finally:  # also on Ctrl-C: the files under way end, no further one begins
                given_up.set()
                pool.shutdown(wait=False, cancel_futures=True)
        _raise_first(done, missing, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _raise_first(done: set[Future[None]], missing: list[Jar], folder: Path) -> None:
    errors = [error for future in done if (error := future.exception()) is not None]
    if not errors:
        return
    error = errors[0]
    if isinstance(error, StoreError) or _is_local(error):
        raise error
    still = _missing(missing, folder / "lib")
    names = ", ".join(str(jar) for jar in still[:3]) + (f" and {len(still) - 3} more" if len(still) > 3 else "")
    raise StoreFilesError(
        f"Cannot fetch {len(still)} of Neo4j's files ({megabytes(sum(jar.size for jar in still))}): {names}. "
        f"The reason given: {type(error).__name__}: {error}. Connect to the network and try again; what has arrived is "
        f"kept. Without a network, copy the folder {folder / 'lib'} from a machine where gradtrace has run, or use a "
        f"Neo4j server of your own by GRADTRACE_NEO4J_URI."
    ) from error


def _is_local(error: BaseException) -> bool:
    """Whether a disk or a permission is to blame (the network library's errors are OSErrors too, without a number)."""
    return (
        isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError | TimeoutError)
    )


def _fetch_one(jar: Jar, scratch: Path, library: Path, bar: Progress, given_up: Event) -> None:
    """Fetch one file with a few attempts, check it, move it into the library."""
    receive, take_back = bar.receiver()
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            path = downloaded(jar, scratch / f"{jar.filename}-{attempt}", receive)
            break
        except (OSError, RuntimeError, ValueError) as error:  # jgo raises the latter two itself
            take_back()
            if _is_local(error) or attempt == _ATTEMPTS or given_up.wait(float(attempt)):
                raise
    with path.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(verified(jar, path), library / jar.filename)


def downloaded(jar: Jar, room: Path, receive: Callable[[int], None]) -> Path:
    """Let jgo fetch the artifact from its default repository into an empty folder."""
    from jgo.maven import MavenContext, PythonResolver

    @contextmanager
    def on_progress(_name: str, _total: int) -> Iterator[Callable[[int], None]]:
        yield receive

    callback: Callable[[str, int], AbstractContextManager[Callable[[int], None]]] = on_progress
    context = MavenContext(resolver=PythonResolver(progress_callback=callback), repo_cache=room, timeout=30)
    component = context.project(jar.group, jar.artifact).at_version(jar.version)
    return component.artifact(classifier=jar.classifier).resolve()
