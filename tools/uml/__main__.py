"""`python -m tools.uml [--timeout S] -- CMD...`: run CMD in the throw-away machine.

Prints what CMD printed once the machine is down; the exit status is CMD's.
"""

import argparse
import sys

from tools.uml.machine import MachineError, run


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m tools.uml", description=__doc__)
    parser.add_argument("--timeout", type=float, default=300.0, metavar="SECONDS")
    parser.add_argument("command")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    try:
        outcome = run([arguments.command, *arguments.arguments], timeout_s=arguments.timeout)
    except MachineError as error:
        print(error, file=sys.stderr)
        return 125
    sys.stdout.buffer.write(outcome.stdout)
    sys.stderr.buffer.write(outcome.stderr)
    return outcome.status if outcome.status >= 0 else 128 - outcome.status


sys.exit(main())
