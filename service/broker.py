"""The queue's server, Redis or Valkey, as far as others than Celery speak to it: its address, and whether it answers."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from gradtrace.tracer.errors import BrokerAuthError, BrokerError, BrokerUnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from gradtrace.service.settings import Settings

CONNECT_SECONDS = 3.0


def given_url(settings: Settings) -> str | None:
    """The address that the settings give, with the password of `redis_password` where it has none; else None."""
    if settings.redis_uri is None:
        return None
    url = settings.redis_uri.get_secret_value()
    parts = urlsplit(url)
    if parts.password is None and settings.redis_password is not None:
        user = parts.username or ""
        host = parts.netloc.rpartition("@")[2]
        secret = quote(settings.redis_password.get_secret_value(), safe="")
        return parts._replace(netloc=f"{user}:{secret}@{host}").geturl()
    return url


def without_secret(url: str) -> str:
    """The address without user and password, fit to be shown.

    >>> without_secret("redis://:s3cret@127.0.0.1:6379/0")
    'redis://127.0.0.1:6379/0'
    """
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


@contextmanager
def connected(url: str, *, seconds: float = CONNECT_SECONDS) -> Iterator[redis.Redis]:
    """A connection to the server, whose errors are told in our words.

    Args:
        url: `redis://[user]:password@host:port/number`; `rediss://` with TLS.
        seconds: how long to wait for an answer.

    Raises:
        BrokerUnreachableError: nothing answers there, or not in time.
        BrokerAuthError: it refuses the credentials.
        BrokerError: anything else that it refuses.
    """
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    shown = without_secret(url)
    client = redis.Redis.from_url(
        url, socket_connect_timeout=seconds, socket_timeout=seconds, retry=Retry(NoBackoff(), 0), decode_responses=True
    )
    try:
        yield client
    except redis.AuthenticationError as error:  # a ConnectionError as well, hence first
        raise BrokerAuthError(
            f"The queue at {shown} refuses the credentials ({error}). Set GRADTRACE_REDIS_PASSWORD, or give them in "
            f"GRADTRACE_REDIS_URI (redis://user:password@host:port/number)."
        ) from None
    except redis.exceptions.NoPermissionError as error:
        raise BrokerAuthError(f"The user given for the queue at {shown} may not do this ({error}).") from None
    except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
        raise BrokerUnreachableError(
            f"The queue at {shown} does not answer: {type(error).__name__}: {error}. Start it (`gradtrace up` for the "
            f"embedded one), or name another by GRADTRACE_REDIS_URI."
        ) from None
    except redis.RedisError as error:
        raise BrokerError(f"The queue at {shown} answers with an error: {error}") from None
    finally:
        client.close()


def ping(url: str, *, seconds: float = CONNECT_SECONDS) -> str:
    """See that the server answers, and return its name and version.

    Raises:
        as `connected`.
    """
    with connected(url, seconds=seconds) as client:
        client.ping()  # INFO alone answers while the server still reads its file
        about = client.info("server")
        name = about.get("server_name", "redis")
        return f"{name} {about.get('valkey_version') or about.get('redis_version')}"
