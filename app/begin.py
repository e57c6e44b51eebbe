"""Where `voicegate` begins: an interrupt that comes before its commands are loaded ends it without a word."""

import signal


def main() -> None:
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else whoever started us wants none
    if heeded:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from app.cli import main as command  # takes half a second

    if heeded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command()
