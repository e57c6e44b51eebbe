"""One-use tokens: once, for a minute, and not without end."""

import pytest

from app.api.access import Identity
from app.api.tickets import MAX_TICKETS, MAX_TICKETS_PER_ADDRESS, TICKET_S, Tickets, TooManyTickets
from app.settings import Role
from tests.fakes.clock import Clock

SOMEBODY = Identity("desk", Role.viewer)


def test_a_token_is_good_once() -> None:
    tickets = Tickets()
    token = tickets.mint(SOMEBODY, "192.0.2.1")
    assert len(token) >= 32
    assert tickets.redeem(token) == SOMEBODY
    assert tickets.redeem(token) is None
    assert tickets.redeem("") is None
    assert tickets.redeem("\ud800") is None


def test_a_token_ends_by_itself() -> None:
    clock = Clock()
    tickets = Tickets(monotonic_s=clock)
    early, late = tickets.mint(SOMEBODY, "a"), ""
    clock.now_s += TICKET_S - 1
    late = tickets.mint(SOMEBODY, "a")
    clock.now_s += 1
    assert tickets.redeem(early) is None
    assert tickets.redeem(late) == SOMEBODY


def test_an_address_and_all_together_have_so_many_at_most() -> None:
    clock = Clock()
    tickets = Tickets(monotonic_s=clock)
    tokens = [tickets.mint(SOMEBODY, "a") for _ in range(MAX_TICKETS_PER_ADDRESS)]
    with pytest.raises(TooManyTickets):
        tickets.mint(SOMEBODY, "a")
    tickets.mint(SOMEBODY, "b")
    assert tickets.redeem(tokens[3]) == SOMEBODY
    tickets.mint(SOMEBODY, "a")
    clock.now_s += TICKET_S
    for n in range(MAX_TICKETS):
        tickets.mint(SOMEBODY, str(n // MAX_TICKETS_PER_ADDRESS))
    with pytest.raises(TooManyTickets):
        tickets.mint(SOMEBODY, "another")
