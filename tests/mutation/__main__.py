"""`python -m tests.mutation [WORD]`: takes the fences away one by one, and prints which test noticed."""

import sys

from tests.mutation.mutations import MUTATIONS
from tests.mutation.runner import judge_all


def main() -> int:
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    chosen = [mutation for mutation in MUTATIONS if word in mutation.name]
    survivors = 0
    for result in judge_all(chosen):
        survivors += result.verdict != "killed"
        print(f"{result.verdict:10} {result.mutation.name:62} {result.test}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
