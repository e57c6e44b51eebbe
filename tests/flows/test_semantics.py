"""Steps that ask for each other's `done`: always an answer, and soon."""

import time

from flows import semantics
from flows.model import Flow, Step, Texts
from flows.semantics import Result


class Empty:
    step = "a"
    attempts = 0

    def visits(self, step: str) -> int:
        return 1

    def value(self, slot: str) -> None:
        return None

    def is_confirmed(self, slot: str) -> bool:
        return False

    def result(self, tool: str) -> Result | None:
        return None


def flow(*steps: Step) -> Flow:
    return Flow("f", 1, steps[0].name, {step.name: step for step in steps}, Texts(*["."] * 7))


def test_steps_that_ask_for_each_other_are_not_done_and_cost_little() -> None:
    names = [f"s{n}" for n in range(40)]
    every = " and ".join(f"(steps.{name}.done or steps.{name}.done)" for name in names[:10])
    looped = flow(*(Step(name, done=every) for name in names))
    before = time.process_time()
    assert not any(semantics.done(looped, Empty(), name) for name in names)
    assert time.process_time() - before < 5  # it took hours while each asked anew


def test_a_long_chain_is_unknown_rather_than_an_error() -> None:
    chain = [Step(f"s{n}", done=f"steps.s{n + 1}.done") for n in range(199)]
    assert not semantics.done(flow(*chain, Step("s199")), Empty(), "s0")
    short = [Step(f"s{n}", done=f"steps.s{n + 1}.done") for n in range(20)]
    assert semantics.done(flow(*short, Step("s20")), Empty(), "s0")
