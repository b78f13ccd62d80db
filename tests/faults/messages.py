"""Hostile messages, made from a seed: everything that somebody with access to the broker might put into a queue."""

from __future__ import annotations

import base64
import copy
import json
import pickle
import random
import uuid
from collections.abc import Iterator
from typing import Any

from gradtrace.service.jobs.limits import QUEUE, REAP, SEGMENT

RUNS: list[Any] = [
    "no-such-run",
    "../../etc/passwd",
    "..",
    "/etc/passwd",
    "a/../../b",
    "a\x00b",
    "digits-mlp\n",
    "\u202egpj.exe",
    "ｄｉｇｉｔｓ",
    "run\u200b",
    "𝕣𝕦𝕟",
    "A" * 151,
    "A" * 100_000,
    "",
    " ",
    "r' OR 1=1 //",
    "r}) DETACH DELETE r //",
    "${jndi:ldap://x}",
    "{{7*7}}",
    "%s%n",
    "-rf",
    "os.system",
    "gradtrace.service.jobs.work",
    None,
    True,
    0,
    -1,
    1.5,
    [],
    ["a"],
    {},
    {"$ne": ""},
]
FENCES: list[Any] = [
    -1,
    2**63,
    2**200,
    1.0,
    1.5,
    "0",
    "",
    None,
    True,
    [],
    {},
    [0],
    {"fence": 0},
    "NaN",
    float("nan"),
    float("inf"),
]
TASKS: list[Any] = [
    "os.system",
    "builtins.eval",
    "gradtrace.service.jobs.tasks.segment",
    "gradtrace.segment ",
    "gradtrace.Segment",
    "gradtrace․segment",
    "celery.backend_cleanup",
    "celery.chunks",
    "celery.map",
    "celery.starmap",
    "celery.accumulate",
    "celery.chord",
    REAP,
    "",
    None,
    1,
    ["gradtrace.segment"],
    {"a": 1},
    "A" * 10_000,
    "../tasks.segment",
    "__import__('os')",
]
HEADERS: list[dict[str, Any]] = [
    {"id": None},
    {"id": ["a"]},
    {"id": {"a": 1}},
    {"id": "x" * 1000},
    {"id": "a b\nc"},
    {"expires": 5},
    {"expires": ["now"]},
    {"expires": "x" * 100},
    {"origin": {"a": 1}},
    {"origin": "\x1b[31m"},
]
OPTIONS: list[Any] = [
    {"callbacks": [{"task": SEGMENT, "args": []}], "errbacks": None, "chain": None, "chord": None},
    {"callbacks": None, "errbacks": ["os.system"], "chain": None, "chord": None},
    {"chain": [{"task": "celery.map"}]},
    {"chord": {"task": "x"}},
    "none",
    None,
    [],
]

MORE: list[dict[str, Any]] = [
    {"workload": "no-such-workload"},
    {"workload": "os.system"},
    {"workload": "tests.faults.building:go_wrong"},
    {"spec": '{"workload": "fault-net"}'},
    {"spec": {"workload": "../../etc/passwd"}},
    {"checkpoint": "../../../etc/passwd"},
    {"checkpoint": "step-00000004-1.pt"},
    {"fence": 0, "seed": 1},
]


class Evil:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self.path, "w"))


def good(
    run: Any = "no-such-run",
    fence: Any = 0,
    task: Any = SEGMENT,
    options: Any = None,
    args: Any = None,
    more: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A message as gradtrace writes it, but for what is given."""
    plain = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    body = [
        [] if args is None else args,
        {"run": run, "fence": fence, **(more or {})},
        plain if options is None else options,
    ]
    number = str(uuid.uuid4())
    return {
        "body": encoded(json.dumps(body)),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": task, "id": number, "retries": 0, "eta": None, "timelimit": [None, None]},
        "properties": {
            "correlation_id": number,
            "delivery_mode": 2,
            "delivery_info": {"exchange": QUEUE, "routing_key": QUEUE},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
        },
    }


def encoded(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def hostile(trap: str, seed: int = 7) -> Iterator[tuple[str, bytes]]:
    """What is wrong with it, and the raw message; none of them may be taken for a ticket of an existing run.

    Args:
        trap: path of a file that appears when a pickle is loaded.
        seed: of the mutations.
    """
    for n, run in enumerate(RUNS):
        yield f"run {n}", raw(good(run=run))
    for n, fence in enumerate(FENCES):
        yield f"fence {n}", raw(good(fence=fence))
    for n, task in enumerate(TASKS):
        yield f"task {n}", raw(good(task=task))
    for n, headers in enumerate(HEADERS):
        message = good()
        message["headers"] |= headers
        yield f"headers {n}", raw(message)
    for n, options in enumerate(OPTIONS[:-2]):
        yield f"options {n}", raw(good(options=options))
    for n, more in enumerate(MORE):
        yield f"more {n}", raw(good(more=more))
    for n, args in enumerate([["no-such-run", 0], {}, "x", 5, [[]]]):
        yield f"arguments {n}", raw(good(args=args))
    evil = pickle.dumps(Evil(trap))
    for kind in (
        "application/x-python-serialize",
        "application/json",
        "application/x-yaml",
        "text/plain",
        "application/data",
        "",
    ):
        for encoding in ("binary", "utf-8"):
            message = good()
            message |= {"body": encoded(evil), "content-type": kind, "content-encoding": encoding}
            yield f"pickle as {kind} {encoding}", raw(message)
    for text in ("10 MB of text", "10 MB of numbers", "deep"):
        body = {
            "10 MB of text": json.dumps([[], {"run": "A" * 10_000_000, "fence": 0}, {}]),
            "10 MB of numbers": json.dumps([list(range(1_400_000)), {}, {}]),
            "deep": "[" * 100_000 + "]" * 100_000,
        }[text]
        yield text, raw({**good(), "body": encoded(body)})
    spoiled = [
        b"",
        b"\x00",
        b"{",
        b"null",
        b"[]",
        b"42",
        b'"text"',
        b"\xff\xfe",
        b"{}",
        evil,
        b"[" * 200_000,
        b"NaN",
        b'{"body": 1}',
    ]
    for n, data in enumerate(spoiled):
        yield f"no message {n}", data
    chance = random.Random(seed)
    for n in range(110):
        yield f"mutation {n}", raw(mutated(good(), chance))


def mutated(message: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """A message with one place removed, or of another type, or its body scrambled."""
    made = copy.deepcopy(message)
    where: dict[str, Any] = made
    keys = ["body", "content-encoding", "content-type", "headers", "properties"]
    key = chance.choice(keys)
    if key in ("headers", "properties") and chance.random() < 0.7:
        where = made[key]
        key = chance.choice(["task", "id"] if key == "headers" else ["body_encoding", "delivery_info", "delivery_tag"])
        if key == "delivery_info" and chance.random() < 0.5:
            where, key = where[key], chance.choice(["exchange", "routing_key"])
    match chance.randrange(3):
        case 0:
            del where[key]
        case 1:
            where[key] = chance.choice([None, 7, 1.5, True, [], {}, [1], {"a": []}, "\ud83d\ude00" * 300, "\x00"])
        case 2:
            text = list(str(where[key]) or "x")
            chance.shuffle(text)
            where[key] = "\u2028" + "".join(text)
    return made


def raw(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode("utf-8", "surrogatepass")
