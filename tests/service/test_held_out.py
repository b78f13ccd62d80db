"""What a run measures on held-out examples when it ends is kept with it, by every sink that takes it."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from gradtrace.queries import Library
from gradtrace.service.epochs import EpochShares
from gradtrace.service.runner import run
from gradtrace.service.spec import spec_from_text
from gradtrace.service.store import connect
from gradtrace.service.store.sink import Neo4jSink
from gradtrace.tracer.errors import StaleFenceError, StoreError
from gradtrace.tracer.sinks import MemorySink, SeveralSinks

if TYPE_CHECKING:
    from gradtrace.service.local import ServerInfo

ASKED = "MATCH (r:Run {id: $run}) RETURN r.held_out_loss AS loss, r.held_out_accuracy AS accuracy"


def test_the_store_has_what_the_runner_returns(clean_store: ServerInfo) -> None:
    spec = spec_from_text("digits-mlp", {"hidden": "8", "batch_size": "512", "steps": "4"}, every=2)
    with (
        connect(clean_store.uri, clean_store.user, clean_store.password, "neo4j") as store,
        closing(Neo4jSink.on(store)) as sink,
    ):
        result = run(spec, EpochShares(SeveralSinks(MemorySink(), sink)))
        library = Library(store.driver)
        assert library.cypher(ASKED, {"run": result.run}).rows == [result.after]
        assert set(result.after) == {"loss", "accuracy"} and result.after != result.before

        sink.note_held_out(result.run, {"loss": 0.25})  # a run that is gone on with is measured anew
        assert library.cypher(ASKED, {"run": result.run}).rows == [{**result.after, "loss": 0.25}]
        with pytest.raises(StoreError, match="holds no run 'nobody'"):
            sink.note_held_out("nobody", {"loss": 0.25})
        sink.set_fence(result.run, 7)
        with pytest.raises(StaleFenceError, match="holds fence 7"):
            sink.note_held_out(result.run, {"loss": 0.5})
        assert library.cypher(ASKED, {"run": result.run}).rows[0]["loss"] == 0.25


def test_sinks_without_a_place_for_it_are_left_alone() -> None:
    spec = spec_from_text("digits-mlp", {"hidden": "8", "batch_size": "512", "steps": "1"})
    sink = EpochShares(MemorySink())
    sink.note_held_out("r", {"loss": 1.0})
    assert run(spec, sink).status == "FINISHED"
