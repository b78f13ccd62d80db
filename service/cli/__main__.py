"""`python -m gradtrace.service.cli`: the same as the command `gradtrace`."""

from gradtrace.service.cli.app import main

main()
