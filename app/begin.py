"""Where `voicegate` begins: an interrupt that comes before its commands are loaded ends it without a word."""

import signal


def main() -> None:
    answer = signal.getsignal(signal.SIGINT)
    if answer is signal.default_int_handler:  # else whoever started us wants no interrupts
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from app.cli import main as command  # takes half a second

    signal.signal(signal.SIGINT, answer)
    command()
