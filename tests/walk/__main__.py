"""`python -m tests.walk`: walks of the engine against the model, and a line that counts them."""

import argparse
import sys

from tests.walk.campaign import compare


def main() -> int:
    """Exit status 1 where anything differs."""
    parser = argparse.ArgumentParser(prog="tests.walk", description=__doc__)
    parser.add_argument("--walks", type=int, default=60_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--outcomes", action="store_true", help="count them by kind")
    options = parser.parse_args()
    result = compare(options.walks, options.seed)
    for mismatch in result.mismatches:
        print(mismatch)
    if options.outcomes:
        for outcome, count in sorted(result.outcomes.items()):
            print(f"{count:8} {' '.join(outcome)}")
    print(f"{result.walks} walks, {len(result.mismatches)} mismatches")
    return 1 if result.mismatches else 0


if __name__ == "__main__":
    sys.exit(main())
