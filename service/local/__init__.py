"""The embedded Neo4j: the real server as a child process, without Docker and without Java on the machine."""

from gradtrace.service.local.home import default_data
from gradtrace.service.local.server import (
    ServerInfo,
    ensure_server,
    in_use,
    server_clients,
    server_status,
    stop_server,
)

__all__ = [
    "ServerInfo",
    "default_data",
    "ensure_server",
    "in_use",
    "server_clients",
    "server_status",
    "stop_server",
]
