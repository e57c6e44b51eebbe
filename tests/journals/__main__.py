"""Records the golden journals anew."""

import argparse
import sys

from tests.journals import golden
from tests.journals.stories import STORIES

HELP = """\
Tells the golden journals anew with the core as it is now, and says which of them changed.

They are replayed on every change, so a difference is a change of what calls do. Do this only where that is meant, read
the difference (git diff tests/journals) line by line, and raise CORE_VERSION in app/core/codec.py: journals of real
calls are replayed by the version that wrote them."""


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m tests.journals", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if one would change")
    parser.add_argument("names", nargs="*", help=f"only these of {', '.join(STORIES)}; default: all")
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - set(STORIES):
        parser.error(f"there is no journal {', '.join(sorted(unknown))}")
    changed = 0
    for name in chosen.names or STORIES:
        text = golden.record(name)
        file = golden.path(name)
        same = file.exists() and file.read_text() == text
        changed += not same
        print(f"{name}: {'as before' if same else 'changed'}, {len(text.splitlines()) - 1} facts")
        if not chosen.check:
            file.write_text(text)
    return 1 if chosen.check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
