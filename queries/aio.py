"""The question library for asyncio programs: the same questions and answers, without holding the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from itertools import islice
from typing import Any

from gradtrace.queries.answer import Answer, Subgraph
from gradtrace.queries.model import Question
from gradtrace.queries.runner import Library

_BATCH = 500  # rows that a stream takes at once: a switch of threads costs more than a row


class AsyncLibrary:
    """`Library` with methods to await; each call waits for the server in a thread.

    Calls may run side by side (`asyncio.gather`). A call that is cancelled lets go at once, and the server ends its
    query by the time limit at the latest. Errors are those of `Library`.

    Args:
        library: the library whose questions are asked.

    Example:
        >>> lib = AsyncLibrary(Library(driver))                            # doctest: +SKIP
        >>> answer = await lib.run("components-by-epoch", run="r1")        # doctest: +SKIP
    """

    def __init__(self, library: Library) -> None:
        self._library = library

    def questions(self) -> list[Question]:
        """All questions, group by group."""
        return self._library.questions()

    async def run(self, name: str, /, **params: object) -> Answer:
        """Ask a question, as `Library.run`."""
        return await asyncio.to_thread(self._library.run, name, **params)

    async def subgraph(self, name: str, /, **params: object) -> Subgraph:
        """What to draw with a question's answer, as `Library.subgraph`."""
        return await asyncio.to_thread(self._library.subgraph, name, **params)

    async def cypher(self, text: str, params: Mapping[str, Any] | None = None, **options: Any) -> Answer:
        """Run ad hoc Cypher, as `Library.cypher`."""
        return await asyncio.to_thread(self._library.cypher, text, params, **options)

    async def explain(self, text: str, params: Mapping[str, Any] | None = None) -> Answer:
        """The plan of a query, as `Library.explain`."""
        return await asyncio.to_thread(self._library.explain, text, params)

    async def profile(self, text: str, params: Mapping[str, Any] | None = None, **options: Any) -> Answer:
        """What each operator of a query did, as `Library.profile`."""
        return await asyncio.to_thread(self._library.profile, text, params, **options)

    async def complete(self, name: str, parameter: str, prefix: str = "", /, **params: object) -> list[str]:
        """Values that a parameter may take, as `Library.complete`."""
        return await asyncio.to_thread(self._library.complete, name, parameter, prefix, **params)

    async def stream(self, name: str, /, **params: object) -> AsyncIterator[dict[str, Any]]:
        """The rows of a question one by one, as `Library.stream`."""
        rows = self._library.stream(name, **params)
        try:
            while batch := await asyncio.to_thread(_some, rows):
                for row in batch:
                    yield row
        finally:
            await asyncio.to_thread(rows.close)


def _some(rows: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    return list(islice(rows, _BATCH))
