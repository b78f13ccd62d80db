"""The log: its two forms, what a line is about, and secrets that never reach it."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from gradtrace.service import log
from gradtrace.service.settings import load_settings

PLANTED = 'pl4nted "s3cret"/ü'


@pytest.fixture(autouse=True)
def handlers_as_they_were() -> Iterator[None]:
    """Leave the loggers, and what is known of secrets, as they were."""
    loggers = [logging.getLogger(), logging.getLogger(log.LOGGER)]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    secrets = list(log._secrets)
    yield
    log._secrets[:] = secrets
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What was logged as JSON; every line must be whole by itself."""
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_json_says_what_a_line_is_about(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up(1, form="json")
    logger = logging.getLogger("gradtrace.some.part")
    with log.about(run="char-lstm-1", segment=3):
        logger.info("begins\nwith two lines")
        log.at_step(40)
        with log.about(step=41):
            logger.warning("%d steps", 7)
        logger.warning("again")
    logger.info("nothing in particular", extra={"run": "other", "step": 0})
    logger.debug("not wanted")
    found = lines(capsys)
    assert [line.get("run") for line in found] == ["char-lstm-1", "char-lstm-1", "char-lstm-1", "other"]
    assert [(line.get("segment"), line.get("step")) for line in found] == [(3, None), (3, 41), (3, 40), (None, 0)]
    assert found[0]["message"] == "begins\nwith two lines" and found[0]["level"] == "INFO"
    assert found[1]["message"] == "7 steps" and found[1]["logger"] == "gradtrace.some.part"
    assert found[0]["time"].endswith("Z") and len(found[0]["time"]) == len("2026-11-24T03:04:05.678Z")


def test_text_says_it_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up(0)
    with log.about(run="r", step=2):
        logging.getLogger("gradtrace").warning("slow")
    logging.getLogger("gradtrace").warning("fast")
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("gradtrace  slow  [run=r step=2]") and second.endswith("gradtrace  fast")


def test_threads_are_about_their_own_runs(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up(1, form="json")
    with log.about(run="mine"):
        other = threading.Thread(target=lambda: logging.getLogger("gradtrace").info("theirs"))
        other.start()
        other.join()
        logging.getLogger("gradtrace").info("ours")
    assert [line.get("run") for line in lines(capsys)] == [None, "mine"]


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(TypeError, match="about run, step, segment, not runn"), log.about(runn="typo"):
        pass


@pytest.mark.parametrize("form", ["json", "text"])
def test_secrets_of_the_settings_reach_no_line(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings = load_settings(
        {
            "GRADTRACE_NEO4J_PASSWORD": PLANTED,
            "GRADTRACE_REDIS_URI": "redis://me:an%2Fother-one@queue:6379/0",
            "GRADTRACE_REDIS_PASSWORD": "third-s3cret",
            "GRADTRACE_LOG_FORMAT": form,
        }
    )
    log.set_up_worker(settings)
    foreign = logging.getLogger("celery.worker")  # who does not know of our secrets
    try:
        raise ValueError(f"cannot log in with {PLANTED} or an/other-one")
    except ValueError:
        foreign.exception("connecting to %s failed", settings.redis_uri.get_secret_value())  # type: ignore[union-attr]
    foreign.warning("third-s3cret %s", {"password": PLANTED})
    foreign.warning(quote(PLANTED, safe=""), extra={"run": PLANTED})
    said = capsys.readouterr().err
    for part in ("s3cret", "other-one", "pl4nted"):
        assert part not in said, said
    assert said.count(log.HIDDEN) >= 6 and "queue:6379" in said
    if form == "json":
        assert "Traceback" in json.loads(said.splitlines()[0])["error"]


def test_settings_change_the_form_and_not_the_level(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up(0)
    log.use_settings(load_settings({"GRADTRACE_LOG_FORMAT": "json"}))
    logging.getLogger("gradtrace").info("not wanted")
    logging.getLogger("gradtrace").warning("wanted")
    assert [line["message"] for line in lines(capsys)] == ["wanted"]
