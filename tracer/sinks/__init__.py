"""Where traced steps go: the protocol, and the two sinks that need no server."""

from gradtrace.tracer.sinks.jsonl import JsonlSink as JsonlSink
from gradtrace.tracer.sinks.jsonl import Recording as Recording
from gradtrace.tracer.sinks.jsonl import read_jsonl as read_jsonl
from gradtrace.tracer.sinks.memory import MemorySink as MemorySink
from gradtrace.tracer.sinks.protocol import RUN_STATUSES as RUN_STATUSES
from gradtrace.tracer.sinks.protocol import Sink as Sink
from gradtrace.tracer.sinks.several import SeveralSinks as SeveralSinks

__all__ = ["RUN_STATUSES", "JsonlSink", "MemorySink", "Recording", "SeveralSinks", "Sink", "read_jsonl"]
