"""`python -m gateway.cli` is `pearl`."""

from gateway.cli.main import main

main()
