"""The store: steps into Neo4j, exactly once each."""

from gradtrace.service.store.check import Checked as Checked
from gradtrace.service.store.check import check_rollups as check_rollups
from gradtrace.service.store.connect import Store as Store
from gradtrace.service.store.connect import connect as connect
from gradtrace.service.store.prune import Pruned as Pruned
from gradtrace.service.store.prune import PrunePolicy as PrunePolicy
from gradtrace.service.store.prune import prune as prune
from gradtrace.service.store.rollups import rebuild_rollups as rebuild_rollups
from gradtrace.service.store.sink import Neo4jSink as Neo4jSink

__all__ = [
    "Checked",
    "Neo4jSink",
    "PrunePolicy",
    "Pruned",
    "Store",
    "check_rollups",
    "connect",
    "prune",
    "rebuild_rollups",
]
