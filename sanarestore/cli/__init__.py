"""The command line: one module a command. Help answers at once, because nothing heavy is imported up here."""

import sys


def main() -> None:
    """Run the program; the process ends with one of `errors.ExitCode`."""
    from sanarestore.cli.app import run

    sys.exit(run(sys.argv[1:]))
