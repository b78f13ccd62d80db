"""Specs: what is accepted, what is refused, and that nothing is imported for it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradtrace.service.spec import MAX_JSON, RunSpec, spec_from_json, spec_from_text
from gradtrace.service.workloads import WORKLOADS
from gradtrace.tracer.errors import SpecError


def test_text_values_become_typed() -> None:
    spec = spec_from_text("char-lstm", {"hidden": "32", "lr": "1e-3", "steps": "5"}, every="log", modes=("maxprod",))
    assert spec.record_parameters() == {
        "seed": 0,
        "epochs": 5,
        "steps": 5,
        "batch_size": 16,
        "lr": 0.001,
        "hidden": 32,
        "embedding": 32,
        "layers": 1,
        "dropout": 0.0,
        "sequence_length": 20,
        "characters": 32_000,
    }
    assert (spec.every, spec.modes, spec.batch_names) == ("log", ("maxprod",), ("training",))
    assert spec_from_text("char-lstm", {}, batches="both").batch_names == ("training", "probe")


def test_unknown_name_lists_the_right_ones() -> None:
    with pytest.raises(SpecError, match=r"'hiden'. Did you mean hidden\? Parameters: batch_size, .*seed, .*steps\."):
        spec_from_text("char-lstm", {"hiden": "3"})
    with pytest.raises(SpecError, match=r"'char-lsmt'. Did you mean char-lstm\? Workloads: char-lstm, .*digits-mlp, "):
        spec_from_text("char-lsmt", {})
    with pytest.raises(SpecError, match=r"no option 'evry'. Did you mean every\?"):
        spec_from_text("char-lstm", {}, evry=3)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hidden", "0.5"),
        ("hidden", "0"),
        ("hidden", "-3"),
        ("hidden", ""),
        ("hidden", "1e3"),
        ("hidden", "\uff11\uff12"),  # full-width digits
        ("hidden", "99999999999999999999"),
        ("lr", "nan"),
        ("lr", "inf"),
        ("lr", "0"),
        ("lr", "0,1"),
        ("lr", "__import__('os')"),
        ("seed", "-1"),
        ("epochs", "none"),
    ],
)
def test_wrong_value_says_what_the_parameter_is(name: str, text: str) -> None:
    with pytest.raises(SpecError, match=rf"char-lstm: {name}=.* is refused: .*default"):
        spec_from_text("char-lstm", {name: text})


@pytest.mark.parametrize("workload", list(WORKLOADS))
def test_every_parameter_is_described_and_its_default_is_in_bounds(workload: str) -> None:
    model = WORKLOADS[workload].parameters
    for name, field in model.model_fields.items():
        assert field.description, name
    defaults = {k: str(f.default) for k, f in model.model_fields.items() if f.default is not None}
    assert spec_from_text(workload, defaults) == spec_from_text(workload, {})


def test_json_goes_there_and_back() -> None:
    spec = spec_from_text("digits-mlp", {"lr": "0.5", "steps": "7"}, every=3, batches="both", watch=("head.weight",))
    assert spec_from_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"workload": 3}',
        '{"workload": "os.system"}',
        '{"workload": "gradtrace.service.workloads.char_lstm:build"}',
        '{"workload": "../char-lstm"}',
        '{"workload": "char-lstm\\u0000"}',
        '{"workload": "char\u2010lstm"}',
        '{"workload": "digits-mlp", "parameters": []}',
        '{"workload": "digits-mlp", "parameters": {"hidden": "3"}}',
        '{"workload": "digits-mlp", "parameters": {"hidden": true}}',
        '{"workload": "digits-mlp", "parameters": {"hidden": 3.5}}',
        '{"workload": "digits-mlp", "parameters": {"lr": NaN}}',
        '{"workload": "digits-mlp", "parameters": {"lr": {"$eval": "1"}}}',
        '{"workload": "digits-mlp", "parameters": {"__class__": 1}}',
        '{"workload": "digits-mlp", "every": 0}',
        '{"workload": "digits-mlp", "every": true}',
        '{"workload": "digits-mlp", "every": "often"}',
        '{"workload": "digits-mlp", "modes": ["fast"]}',
        '{"workload": "digits-mlp", "modes": []}',
        '{"workload": "digits-mlp", "experiment": "../../etc"}',
        '{"workload": "digits-mlp", "sink": "jsonl:/etc/passwd"}',
        '{"workload": "digits-mlp", "watch": [3]}',
        '{"workload": "digits-mlp", "model_extra": {}}',
        b"\x80\x04\x95",  # a pickle
        b'{"workload": "\xff"}',
    ],
)
def test_hostile_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(SpecError):
        spec_from_json(text)


def test_a_flood_of_json_is_not_read() -> None:
    with pytest.raises(SpecError, match=r"has 10,000,000 characters; at most 100,000 are read"):
        spec_from_json("[" * 10_000_000)
    with pytest.raises(SpecError):
        spec_from_json("[" * (MAX_JSON - 1))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
FIELDS = st.sampled_from(sorted(RunSpec.model_fields)) | st.text(max_size=12)


@given(st.dictionaries(FIELDS, JSON, max_size=6) | JSON)
def test_any_json_is_a_spec_or_a_spec_error(value: object) -> None:
    if isinstance(value, dict):
        value = {"workload": "digits-mlp", **value}
    try:
        spec = spec_from_json(json.dumps(value))
    except SpecError:
        return
    assert spec.workload in WORKLOADS


def test_log_spacing_is_dense_first_then_eight_a_doubling() -> None:
    spec = spec_from_text("digits-mlp", {}, every="log")
    traced = [s for s in range(1024) if spec.traces(s)]
    assert traced[:20] == [*range(16), 16, 18, 20, 22]
    for low in (16, 32, 64, 128, 256, 512):
        assert sum(low <= s < 2 * low for s in traced) == 8


def test_every_n() -> None:
    spec = spec_from_text("digits-mlp", {}, every=4)
    assert [s for s in range(12) if spec.traces(s)] == [0, 4, 8]


def test_specs_are_judged_without_importing_torch() -> None:
    code = (
        "import sys\n"
        "from gradtrace.service.spec import spec_from_json, spec_from_text\n"
        "spec_from_text('char-lstm', {'hidden': '3'})\n"
        'spec_from_json(\'{"workload": "digits-mlp"}\')\n'
        "print(sorted({'torch', 'numba', 'sklearn', 'neo4j'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
