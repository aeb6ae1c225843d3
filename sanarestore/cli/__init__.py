"""The command line: one module per command. Help is instant, because no heavy module is imported at the top."""

import sys


def main() -> None:
    """Run the program; the process ends with one of `errors.ExitCode`."""
    from sanarestore.cli.app import run

    sys.exit(run(sys.argv[1:]))
