"""Answers one question anew: trains, stores, asks, and writes numbers, drawings and text.

python -m examples.findings stack              # all of examples/findings/stack anew
python -m examples.findings stack --check      # the same beside it, and does the text still say what comes out?
python -m examples.findings stack --redraw     # text and drawings alone, from the numbers that are there
python -m examples.findings stack --reduced --to /tmp/stack     # does the machinery work? a minute; finds nothing
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

NAMES = ("stack", "lag", "attention")


def main(arguments: list[str] | None = None) -> int:
    """Do what is asked for; 0 if all is well, 1 if `--check` finds that the text is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.findings", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=NAMES)
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--check", action="store_true", help="compare with the committed numbers and text, and change nothing"
    )
    how.add_argument(
        "--redraw", action="store_true", help="train nothing: text and drawings from the committed numbers"
    )
    parser.add_argument("--reduced", action="store_true", help="hardly train; needs --to")
    parser.add_argument("--to", type=Path, help="folder to write to, instead of the finding's own")
    asked = parser.parse_args(arguments)
    if asked.reduced and (asked.to is None or asked.check or asked.redraw):
        parser.error(
            "--reduced finds nothing that is true, so it wants a folder to write to, by --to, and nothing else."
        )

    from . import results, text
    from .question import Question

    question: Question = import_module(f".{asked.name}", __package__).QUESTION
    if asked.redraw:
        about, records = results.read(question.folder)
        text.write(question, about, results.runs_of(records), asked.to or question.folder)
        return 0
    with tempfile.TemporaryDirectory() as aside:
        folder = Path(aside) if asked.check and asked.to is None else asked.to or question.folder
        folder.mkdir(parents=True, exist_ok=True)
        anew(question, folder, reduced=asked.reduced)
        return check(question, folder) if asked.check else 0


def anew(question: object, folder: Path, *, reduced: bool = False) -> None:
    """Train and ask, and write all that a finding consists of into a folder."""
    from gradtrace.service.cli.store import opened_store

    from . import results, text
    from .ask import ask
    from .question import Question
    from .train import PROCESSES, train

    assert isinstance(question, Question)
    plan = question.plan.reduced() if reduced else question.plan
    experiment = f"finding-{question.name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    started = time.monotonic()
    with opened_store() as opened:
        arms, busy = train(plan, experiment)
        records = ask(opened.library, plan, experiment, arms)
    import torch

    about = {
        "torch": torch.__version__.partition("+")[0],
        "python": platform.python_version(),
        "processor": platform.machine(),
        "processes": PROCESSES,
        "threads": 1,
        "minutes": round((time.monotonic() - started) / 60, 1),
        "processor_minutes": round(busy / 60, 1),
    }
    results.write(folder, about, records)
    text.write(question, about, results.runs_of(records), folder)
    print(f"Experiment {experiment} is in the graph database, and the answer in {folder}.", file=sys.stderr)


def check(question: object, folder: Path) -> int:
    """Hold what was found now against what is committed; the exit status."""
    from . import results
    from .question import Question

    assert isinstance(question, Question)
    old, new = (results.read(where)[1] for where in (question.folder, folder))
    different = results.differences(old, new)
    if not different:
        print(f"All {len(new)} runs are the same in every digit.")
        return 0
    print(
        f"{len(different)} of {len(new)} runs differ in some digit (other processor, torch or thread count?), such as"
    )
    print("".join(f"  {line}\n" for line in different[:3]), end="")
    before, after = results.runs_of(old), results.runs_of(new)
    wrong = results.outside(question.numbers(before), question.numbers(after))
    wrong += [
        f"expectation {a.text!r}: {'holds' if a.holds else 'fails'} in the text, {'holds' if b.holds else 'fails'} now"
        for a, b in zip(question.expectations(before), question.expectations(after), strict=True)
        if a.holds != b.holds
    ]
    if not wrong:
        print("Every number of the text lies within the joint 95 % intervals, and every verdict is the same.")
        return 0
    print("What the text says does not agree with what was found now:\n" + "\n".join(f"  {line}" for line in wrong))
    return 1


if __name__ == "__main__":
    sys.exit(main())
