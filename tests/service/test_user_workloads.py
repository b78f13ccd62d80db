"""Workloads of users: the example package for real, every way to get one wrong, and names that must import nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gradtrace.service.spec import spec_from_json, spec_from_text
from gradtrace.service.workloads import WORKLOADS, find, foreign
from gradtrace.tracer.errors import SpecError
from tests.service.cli import completions, environment, gradtrace, ok, refused
from tests.service.example import install_spirals

GOOD = """
from gradtrace.service.workloads import Workload, WorkloadParameters

class Parameters(WorkloadParameters):
    width: int = 8

WORKLOAD = Workload("my-net", "a net of mine", Parameters, "MODULE_training")
WORKLOADS = [WORKLOAD]
"""

Install = Callable[..., str]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a module on Python's path, and a package with an entry point for it; gives the module's name.

    The names are new for every test, since Python imports a module once.
    """
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("GRADTRACE_SETTINGS", "")
    before = set(sys.modules)

    def make(code: str, *, entry: str | None = "my-net", target: str = "WORKLOAD", training: str = "") -> str:
        number = len(list(tmp_path.glob("*.dist-info")))
        module = f"user_{tmp_path.name.replace('-', '_')}_{number}"
        (tmp_path / f"{module}.py").write_text(code.replace("MODULE", module))
        (tmp_path / f"{module}_training.py").write_text(training)
        about = tmp_path / f"package_{number}-1.{number}.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: package-{number}\nVersion: 1.{number}\n")
        if entry is not None:
            (about / "entry_points.txt").write_text(f"[{foreign.GROUP}]\n{entry} = {module}:{target}\n")
        foreign._points.cache_clear()
        return module

    yield make
    for name in set(sys.modules) - before:
        if name.startswith("user_"):
            del sys.modules[name]
    monkeypatch.undo()
    foreign._points.cache_clear()


def test_an_entry_point_is_found_and_imported_only_when_asked_for(install: Install) -> None:
    module = install(GOOD)
    find("digits-mlp")
    assert module not in sys.modules
    assert "my-net" in foreign.installed() and module not in sys.modules
    spec = spec_from_json('{"workload": "my-net", "parameters": {"width": 3}}')
    assert spec.record_parameters()["width"] == 3 and module in sys.modules
    assert f"{module}_training" not in sys.modules, "what trains is imported when it is trained"


def test_a_module_of_the_allow_list_is_found(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    module = install(GOOD, entry=None)
    with pytest.raises(SpecError, match="There is no workload 'my-net'"):
        find("my-net")
    assert module not in sys.modules, "it is not allowed yet"
    monkeypatch.setenv("GRADTRACE_WORKLOAD_MODULES", f"{module}")
    assert find("my-net").description == "a net of mine"
    with pytest.raises(SpecError, match=rf"no workload 'my-nat'.*The modules {module} have none of that name"):
        find("my-nat")


def test_parameters_of_a_user_are_checked_like_built_in_ones(install: Install) -> None:
    install(GOOD)
    with pytest.raises(SpecError, match=r"my-net has no parameter 'widht'\. Did you mean width"):
        spec_from_text("my-net", {"widht": "3"})
    with pytest.raises(SpecError, match="my-net: width='broad' is refused"):
        spec_from_text("my-net", {"width": "broad"})


WRONG = {
    "no such module": (
        "import no_such_module_at_all",
        r"entry point .*:WORKLOAD\) cannot be imported: .* was found, but importing it raised ModuleNotFoundError: No module"
        r" named 'no_such_module_at_all'",
    ),
    "raises": ("1 / 0", r"cannot be imported: .* importing it raised ZeroDivisionError: division by zero"),
    "syntax": ("def (:", r"cannot be imported: .* importing it raised SyntaxError"),
    "no object": ("", r"cannot be imported: .* AttributeError: module .* has no attribute 'WORKLOAD'"),
    "a function": ("def WORKLOAD(p): ...", r"is a function; expected a gradtrace\.service\.workloads\.Workload"),
    "the class": (
        "from gradtrace.service.workloads import Workload as WORKLOAD",
        r"is the class Workload; expected a gradtrace",
    ),
    "another name": (GOOD.replace('"my-net"', '"your-net"'), r"calls itself 'your-net'\. Give the entry point and"),
    "a bad name": (GOOD.replace('"my-net"', '"My Net"'), r"is called 'My Net'; a name has small letters, digits and"),
    "no text": (GOOD.replace('"a net of mine"', "None"), r"has a description that is no text: None"),
    "other parameters": (
        GOOD.replace("Parameters(WorkloadParameters)", "Parameters"),
        r"expected a subclass of gradtrace\.service\.workloads\.WorkloadParameters",
    ),
    "extra fields": (
        GOOD.replace("    width", '    model_config = {"extra": "allow"}\n    width'),
        r"Parameters must forbid extra fields and be frozen.*extra='allow'",
    ),
    "not frozen": (
        GOOD.replace("    width", '    model_config = {"frozen": False}\n    width'),
        r"Parameters must forbid extra fields and be frozen.*frozen=False",
    ),
    "a list": (
        GOOD.replace("width: int = 8", "width: tuple[int, ...] = (8, 8)"),
        r"the default of Parameters\.width is no text, number, truth value or None",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_package_is_told_what_to_change(install: Install, case: str) -> None:
    code, message = WRONG[case]
    install(code)
    with pytest.raises(SpecError, match=message) as caught:
        find("my-net")
    assert "'my-net' of the package package-0 1.0" in str(caught.value)


def test_an_entry_point_without_its_module(install: Install, tmp_path: Path) -> None:
    module = install(GOOD)
    (tmp_path / f"{module}.py").unlink()
    with pytest.raises(SpecError, match=rf"cannot be imported: there is no module '{module}' \(install its package"):
        find("my-net")


def test_two_packages_of_one_workload(install: Install) -> None:
    install(GOOD), install(GOOD)
    with pytest.raises(SpecError, match=r"more than one package: .*package-0 1\.0.*package-1 1\.1.*Uninstall all but"):
        find("my-net")


def test_a_name_that_is_built_in_already(install: Install) -> None:
    module = install(GOOD, entry="digits-mlp")
    with pytest.raises(SpecError, match=r"'digits-mlp' is built in, but the package package-0 1\.0.*Rename that entry"):
        find("digits-mlp")
    assert find("char-lstm") is WORKLOADS["char-lstm"], "the others are as good as ever"
    assert module not in sys.modules


def test_a_wrong_module_of_the_allow_list(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(*modules: str) -> str:
        monkeypatch.setenv("GRADTRACE_WORKLOAD_MODULES", ",".join(modules))
        return find("my-net").description

    good = install(GOOD, entry=None)
    broken, empty, number = install("1 / 0", entry=None), install("", entry=None), install("WORKLOADS = 7", entry=None)
    with pytest.raises(
        SpecError, match=r"there is no module 'no_such_module' \(install its package, or put its folder"
    ):
        found("no_such_module")
    with pytest.raises(
        SpecError, match=rf"The module '{broken}' of the setting workload_modules cannot be imported: .*Zero"
    ):
        found(broken)
    with pytest.raises(SpecError, match=r"has no attribute WORKLOADS\. Set it to a Workload, or to a list"):
        found(empty)
    with pytest.raises(SpecError, match=r"in WORKLOADS, is a int; expected a gradtrace"):
        found(number)
    assert found(broken, good) == "a net of mine", "another module's fault is no reason to refuse a good one"
    with pytest.raises(SpecError, match=r"More than one workload is called 'my-net'.*Leave all but one out"):
        found(good, install(GOOD, entry=None))
    with pytest.raises(SpecError, match=r"workload_modules, from the environment variable .*expected names of modules"):
        found("os; import sys")


TRAINING = {
    "no such module": (None, r"cannot be built: there is no module 'user_\w+_training'"),
    "raises": ("import torch\nraise RuntimeError('no GPU')", r"importing it raised RuntimeError: no GPU"),
    "no build": ("", r"user_\w+_training has no function build\(parameters\)"),
    "no argument": ("def build(): ...", r"build\(\) cannot be called with the parameters alone.*expected build\(param"),
    "two arguments": ("def build(a, b): ...", r"build\(a, b\) cannot be called with the parameters alone"),
    "keywords": ("def build(*, parameters): ...", r"cannot be called with the parameters alone"),
    "another thing": ("def build(p): return p", r"build gave a Parameters; expected a gradtrace\S+\.WorkloadInstance"),
}


@pytest.mark.parametrize("case", TRAINING)
def test_a_wrong_build_is_told_what_to_change(install: Install, tmp_path: Path, case: str) -> None:
    training, message = TRAINING[case]
    module = install(GOOD, training=training or "")
    if training is None:
        (tmp_path / f"{module}_training.py").unlink()
    workload = find("my-net")
    with pytest.raises(SpecError, match=message) as caught:
        workload.build(workload.parameters())
    assert "'my-net' cannot be" in str(caught.value)


HOSTILE = [
    "os",
    "os:system",
    "os.system",
    "this",  # a module that prints when it is imported
    "this:s",
    "evil",
    "evil:WORKLOAD",
    "evil.WORKLOADS",
    "../evil",
    "/etc/passwd",
    "gradtrace.service.workloads.char_lstm",
    "gradtrace_spirals:WORKLOAD",
    "digits‐mlp",  # U+2010
    "ｄigits-mlp",
    "digits-mlp\0",
    " digits-mlp",
    "DIGITS-MLP",
    "__import__('evil')",
    "${jndi:ldap://x}",
    "",
    "a" * 10_000_000,
]


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: repr(name[:30]))
def test_a_hostile_name_imports_nothing(install: Install, tmp_path: Path, name: str) -> None:
    install(GOOD)
    (tmp_path / "evil.py").write_text("import pathlib; pathlib.Path(__file__).with_suffix('.ran').touch()\n" + GOOD)
    find("char-lstm")  # loads what finding itself needs
    with pytest.raises(SpecError):
        find("no-such-net")
    before = set(sys.modules)
    with pytest.raises(SpecError, match="There is no workload") as caught:
        find(name)
    assert set(sys.modules) == before
    assert not (tmp_path / "evil.ran").exists()
    assert len(str(caught.value)) < 1000
    with pytest.raises(SpecError):
        spec_from_json(json.dumps({"workload": name, "parameters": {}}))
    assert set(sys.modules) == before


@pytest.fixture(scope="module")
def installed_example(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which the example package is installed."""
    site = install_spirals(tmp_path_factory.mktemp("example"))
    return environment(PYTHONPATH=str(site), OMP_NUM_THREADS="1")


def test_the_example_is_listed_and_completed(installed_example: dict[str, str]) -> None:
    rows = json.loads(ok(gradtrace("workloads", "--format", "json", env=installed_example)))
    assert [r["workload"] for r in rows][-1] == "spirals"
    assert "of the package gradtrace-spirals 1.0.0" in rows[-1]["description"]
    names = [
        r["parameter"]
        for r in json.loads(ok(gradtrace("workloads", "spirals", "--format", "json", env=installed_example)))
    ]
    assert {"depth", "width", "turns", "points", "seed", "lr"} <= set(names)
    assert completions(["gradtrace", "run", "spi"], installed_example) == ["spirals"]
    assert "spirals" not in ok(gradtrace("workloads"))
    assert "There is no workload 'spirals'" in refused(gradtrace("run", "spirals", "--sink", "memory"), 2)


def test_the_example_learns_and_its_components_are_traced(installed_example: dict[str, str]) -> None:
    done = gradtrace(
        *("run", "spirals", "--epochs", "10", "--every", "60", "--sink", "memory", "--format", "json"),
        env=installed_example,
    )
    result = json.loads(ok(done))
    components = {row["component"] for row in result["components"]}
    assert {"entry", "blocks", "blocks.0.skip", "blocks.3.inner", "head"} <= components
    assert result["status"] == "FINISHED" and result["traced"] == 4
    assert result["before"]["accuracy"] < 0.7 and result["after"]["accuracy"] > 0.95
