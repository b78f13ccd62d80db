"""The Celery app: how tickets travel and how worker processes live. What they do is in `work`."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

from celery import Celery
from celery.platforms import set_pdeathsig
from celery.signals import (
    beat_embedded_init,
    setup_logging,
    worker_init,
    worker_process_init,
    worker_ready,
    worker_shutting_down,
)
from kombu.entity import Exchange, Queue

from gradtrace.service.jobs import redact, stopping
from gradtrace.service.jobs.limits import CONTROL, QUEUE, REAP, SEGMENT, Limits
from gradtrace.service.log import set_up_worker
from gradtrace.service.settings import load_settings

log = logging.getLogger(__name__)
_CHATTY = ("neo4j", "celery.beat", "celery.worker.request", "celery.worker.strategy")
"""They tell of every retry and every look at the queue; what matters of it we say ourselves."""


@lru_cache(maxsize=1)
def app() -> Celery:
    """The app of this process, made from the settings.

    Raises:
        SpecError: a setting is wrong.
        BrokerUnreachableError: the embedded Valkey could not be started.
    """
    from gradtrace.service.local.valkey import ensure_valkey

    settings = load_settings()
    url = ensure_valkey(settings)
    redact.hide_environment()
    redact.hide_url(url)
    made = Celery("gradtrace", set_as_current=False, include=["gradtrace.service.jobs.tasks"])
    made.conf.update(configuration(url, Limits.of(settings)))
    return made


def configuration(url: str, limits: Limits) -> dict[str, Any]:
    """Celery's settings.

    Args:
        url: of the broker; holds the password.
        limits: how long things may take.
    """
    visibility = {"visibility_timeout": limits.visibility}
    queues = [Queue(name, Exchange(name, type="direct"), routing_key=name) for name in (QUEUE, CONTROL)]
    return {
        "broker_url": url,
        "broker_transport": "gradtrace.service.jobs.transport:Transport",
        # In all three places: the shortest wins, and another setting must not come in by the back door.
        "broker_transport_options": {
            **visibility,
            "socket_timeout": 30.0,
            "socket_connect_timeout": 5.0,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
        "result_backend_transport_options": visibility,
        "visibility_timeout": limits.visibility,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "task_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        "event_serializer": "json",
        "result_backend": None,
        "task_ignore_result": True,
        "task_queues": queues,
        "task_default_queue": QUEUE,
        "task_create_missing_queues": False,
        "task_routes": {SEGMENT: {"queue": QUEUE}, REAP: {"queue": CONTROL}},
        # A ticket is acknowledged when its segment is over, or when its process was killed and it is back in the queue.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_acks_on_failure_or_timeout": True,
        "worker_prefetch_multiplier": 1,
        "task_time_limit": limits.hard,
        "task_soft_time_limit": limits.soft,
        "task_publish_retry": True,
        "task_publish_retry_policy": {
            "max_retries": 3,
            "interval_start": 0.2,
            "interval_step": 0.5,
            "interval_max": 2.0,
        },
        "worker_send_task_events": True,
        "task_send_sent_event": True,
        "worker_hijack_root_logger": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_proc_alive_timeout": 60.0,
        "beat_scheduler": "celery.beat:Scheduler",  # the other one keeps a file of pickles
        "beat_schedule": {
            REAP: {"task": REAP, "schedule": limits.reap, "options": {"queue": CONTROL, "expires": limits.reap}}
        },
        "timezone": "UTC",
    }


@setup_logging.connect
def _log(loglevel: int | str | None = None, **_: object) -> None:
    """Celery's log goes the same way as ours, secrets blotted out."""
    level = loglevel if isinstance(loglevel, int) else getattr(logging, str(loglevel or "INFO").upper(), logging.INFO)
    set_up_worker(load_settings(), level)
    if level >= logging.INFO:
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.ERROR)


@worker_init.connect
def _prepare(**_: object) -> None:
    stopping.prepare()


@worker_process_init.connect
def _child(**_: object) -> None:
    # What workloads print goes through the log as well, for it may hold a secret.
    app().log.redirect_stdouts_to_logger(logging.getLogger("gradtrace.workload"), loglevel=logging.INFO)


@beat_embedded_init.connect
def _clock(**_: object) -> None:
    """The clock ends with its worker, even one that is killed; Celery sees to that for the other processes only."""
    set_pdeathsig("SIGKILL")


@worker_ready.connect
def _look(sender: Any, **_: object) -> None:
    """Look for runs that were left behind, without waiting for the clock."""
    try:
        sender.app.send_task(REAP, queue=CONTROL, retry=False)
    except Exception as error:  # the broker went away meanwhile; the clock will see to it
        log.warning("The first look for runs is left to the clock: %s", type(error).__name__)


@worker_shutting_down.connect
def _stop(**_: object) -> None:
    stopping.stop_all()
