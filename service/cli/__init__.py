"""The command line, `gradtrace`. Importing this imports neither torch nor neo4j nor numba."""

from gradtrace.service.cli.app import main as main
