"""Dialogs (RFC 3261, 12): route sets, numbers, targets, and the ways of requests behind address translation."""

import pytest
from sipmessage import Request, Response

from media.sip import message as sip
from media.sip.dialog import MAX_ROUTES, Dialog, contact
from media.sip.message import Hop, MessageError

SOURCE = Hop("udp", "192.0.2.1", 5060)
P1, P2, P3 = "<sip:p1.example.com;lr>", "<sip:p2.example.com;lr>", "<sip:p3.example.com;lr>"


def invite(*routes: str, contact: str = "<sip:ann@192.0.2.1>", vias: int = 1, cseq: str = "7 INVITE") -> Request:
    made = sip.request(cseq.split()[1], "sip:bob@192.0.2.2")
    for number in range(vias):
        made.headers.add("Via", f"SIP/2.0/UDP 192.0.2.{10 + number};branch=z9hG4bK{number}")
    made.headers.set("From", '"Ann" <sip:ann@example.org>;tag=a1')
    made.headers.set("To", "<sip:bob@example.com>")
    made.headers.set("Call-ID", "c1")
    made.headers.set("CSeq", cseq)
    if contact:
        made.headers.set("Contact", contact)
    for route in routes:
        made.headers.add("Record-Route", route)
    return read_request(made)


def read_request(message: Request) -> Request:
    read = sip.parse(sip.write(message))
    assert isinstance(read, Request)
    return read


def accepted(request: Request, *, contact: str = "<sip:bob@192.0.2.2:5070>", tag: str = "b1") -> Response:
    made = sip.response(request, 200, tag=tag)
    for route in sip.values(request, "Record-Route"):
        made.headers.add("Record-Route", route)
    if contact:
        made.headers.set("Contact", contact)
    return made


def sides(*routes: str) -> tuple[Dialog, Dialog]:
    """Ann who invited, Bob who was."""
    request = invite(*routes)
    return Dialog.of_client(request, accepted(request), SOURCE), Dialog.of_server(request, "b1", SOURCE)


def test_both_sides_agree() -> None:
    ann, bob = sides()
    assert (ann.local, ann.remote) == (bob.remote, bob.local)
    assert ann.key == ("c1", "a1", "b1")
    assert bob.key == ("c1", "b1", "a1")
    assert (ann.local_sequence, bob.remote_sequence) == (7, 7)
    assert ann.remote_sequence is None
    for dialog, start, from_tag, to_tag in (
        (ann, "BYE sip:bob@192.0.2.2:5070", "a1", "b1"),
        (bob, "BYE sip:ann@192.0.2.1", "b1", "a1"),
    ):
        bye = dialog.request("BYE")
        assert sip.write(bye).startswith(f"{start} SIP/2.0\r\n".encode())
        assert (sip.from_tag(bye), sip.to_tag(bye), bye.call_id) == (from_tag, to_tag, "c1")
        assert sip.number(bye, "Max-Forwards") == 70
        assert not bye.headers.getlist("Route")


@pytest.mark.parametrize("routes", [(P1, P2, P3), (f"{P1}, {P2}", P3), (f"{P1} ,\t{P2},{P3}",)])
def test_the_route_of_each_side_begins_at_its_own_end(routes: tuple[str, ...]) -> None:
    """12.1.1 and 12.1.2: the last proxy before Bob wrote the first line."""
    ann, bob = sides(*routes)
    assert sip.values(ann.request("BYE"), "Route") == [P3, P2, P1]
    assert sip.values(bob.request("BYE"), "Route") == [P1, P2, P3]
    assert str(ann.request("BYE").uri) == "sip:bob@192.0.2.2:5070"
    assert ann.hop == Hop("udp", "p3.example.com", 5060)
    assert bob.hop == Hop("udp", "p1.example.com", 5060)


@pytest.mark.parametrize(
    ("routes", "target", "route"),
    [
        (["<sip:p1;lr>"], "sip:ann@192.0.2.1", ["<sip:p1;lr>"]),
        (["<sip:p1;LR=on;x=1>"], "sip:ann@192.0.2.1", ["<sip:p1;LR=on;x=1>"]),
        # The lr of the header is none of the address.
        (["<sip:p1>;lr"], "sip:p1", ["<sip:ann@192.0.2.1>"]),
        (["<sip:p1>", "<sip:p2;lr>"], "sip:p1", ["<sip:p2;lr>", "<sip:ann@192.0.2.1>"]),
        (["<sip:p1;lr>", "<sip:p2>"], "sip:ann@192.0.2.1", ["<sip:p1;lr>", "<sip:p2>"]),
        (["<sip:p1?x=y>"], "sip:p1", ["<sip:ann@192.0.2.1>"]),
    ],
)
def test_strict_and_loose_routers(routes: list[str], target: str, route: list[str]) -> None:
    """12.2.1.1."""
    _, bob = sides(*routes)
    for method in ("INFO", "ACK", "BYE"):
        made = bob.request(method)
        assert str(made.uri) == target
        assert sip.values(made, "Route") == route
    assert bob.routes == routes


def test_numbers_of_ours_rise_by_one_and_an_ack_has_none_of_its_own() -> None:
    ann, bob = sides()
    assert [sip.sequence(ann.request(method)) for method in ("INFO", "ACK", "INVITE", "BYE")] == [8, 8, 9, 10]
    assert sip.sequence(bob.request("BYE")) == 1


@pytest.mark.parametrize(
    ("numbers", "admitted"),
    [
        ([8, 9, 10], [True, True, True]),
        ([8, 100, 99, 101], [True, True, False, True]),
        ([7], [False]),
        ([6, 8], [False, True]),
        ([8, 8], [True, False]),
        ([(1 << 31) - 1, 1], [True, False]),
    ],
)
def test_numbers_of_the_peer_only_rise(numbers: list[int], admitted: list[bool]) -> None:
    """12.2.2."""
    _, bob = sides()
    assert [bob.admits(invite(cseq=f"{number} INFO")) for number in numbers] == admitted


def test_the_first_number_of_who_was_invited_may_be_any() -> None:
    ann, _ = sides()
    assert ann.admits(invite(cseq="0 BYE"))
    assert not ann.admits(invite(cseq="0 INFO"))


def test_an_ack_is_always_in_order() -> None:
    _, bob = sides()
    assert bob.admits(invite(cseq="9 INFO"))
    assert bob.admits(invite(cseq="7 ACK"))
    assert bob.remote_sequence == 9


@pytest.mark.parametrize("value", ["", "*", "<tel:+123>", "<sip:>", "nothing", "<mailto:a@b>", '"x <sip:a@b>'])
def test_a_contact_that_cannot_be_used(value: str) -> None:
    request = invite(contact=value)
    with pytest.raises(MessageError) as caught:
        Dialog.of_server(request, "b1", SOURCE)
    assert caught.value.request in (request, None)
    with pytest.raises(MessageError):
        Dialog.of_client(invite(), accepted(invite(), contact=value), SOURCE)


def test_the_first_contact_counts_without_what_is_not_its_address() -> None:
    found = contact(invite(contact='"a, b" <sip:ann@192.0.2.1;x=1?Route=y>;q=1, <sip:other@192.0.2.9>'))
    assert str(found) == "sip:ann@192.0.2.1;x=1"


def test_too_many_routes() -> None:
    assert len(sides(*[P1] * MAX_ROUTES)[1].routes) == MAX_ROUTES
    with pytest.raises(MessageError):
        Dialog.of_server(invite(*[P1] * (MAX_ROUTES + 1)), "b1", SOURCE)
    with pytest.raises(MessageError):
        Dialog.of_server(invite("<nothing>"), "b1", SOURCE)


# Target refresh (12.2)


def test_a_peer_that_moves_is_followed() -> None:
    ann, bob = sides()
    moved = Hop("udp", "192.0.2.50", 5090)
    bob.refreshed(invite(contact="<sip:ann@192.0.2.50:5090>", cseq="8 INVITE"), moved)
    assert (str(bob.target), bob.hop) == ("sip:ann@192.0.2.50:5090", moved)
    ann.refreshed(accepted(invite(), contact="<sip:bob@192.0.2.60>"), None)
    assert (str(ann.target), ann.hop) == ("sip:bob@192.0.2.60", Hop("udp", "192.0.2.60", 5060))


def test_routes_stay_as_they_were_when_a_peer_moves() -> None:
    """12.2.1.2: only the target changes."""
    ann, bob = sides(P1, P2)
    bob.refreshed(invite(P3, contact="<sip:ann@192.0.2.50>", vias=3), Hop("udp", "198.51.100.1", 5060))
    ann.refreshed(accepted(invite(P3), contact="<sip:bob@192.0.2.60>"), None)
    assert (bob.routes, bob.hop.host) == ([P1, P2], "p1.example.com")
    assert (ann.routes, ann.hop.host) == ([P2, P1], "p2.example.com")
    assert (bob.target.host, ann.target.host) == ("192.0.2.50", "192.0.2.60")


@pytest.mark.parametrize("value", ["", "*", "<tel:1>"])
def test_a_refresh_without_a_usable_contact_changes_nothing(value: str) -> None:
    _, bob = sides()
    before = bob.target, bob.hop
    try:
        bob.refreshed(invite(contact=value), Hop("udp", "198.51.100.1", 5060))
    except MessageError:
        assert value
    assert (bob.target, bob.hop) == before


# Where requests go

OUTER = Hop("udp", "198.51.100.1", 40_000)
STREAM = Hop("tcp", "198.51.100.1", 40_000, 7)
INNER = "<sip:ann@10.0.0.5:5060>"


@pytest.mark.parametrize(
    ("source", "vias", "routes", "hop"),
    [
        (OUTER, 1, [], OUTER),  # behind a translator, nobody between
        (OUTER, 2, [], Hop("udp", "10.0.0.5", 5060)),  # through a proxy that keeps out of the call
        (OUTER, 2, [P1], Hop("udp", "p1.example.com", 5060)),
        (OUTER, 1, [P1], Hop("udp", "p1.example.com", 5060)),
        (STREAM, 1, [], Hop("tcp", "10.0.0.5", 5060, 7)),  # the stream that stands
        (STREAM, 2, [P1], Hop("tcp", "p1.example.com", 5060, 7)),
    ],
)
def test_the_way_back_to_who_invited_us(source: Hop, vias: int, routes: list[str], hop: Hop) -> None:
    request = invite(*routes, contact=INNER, vias=vias)
    assert Dialog.of_server(request, "b1", source).hop == hop


@pytest.mark.parametrize(
    ("sent_to", "said", "routes", "hop"),
    [
        ("8.8.8.8", "10.0.0.5", [], "8.8.8.8"),
        ("8.8.8.8", "100.64.1.1", [], "8.8.8.8"),  # a carrier's translator
        ("8.8.8.8", "[fd00::1]", [], "8.8.8.8"),
        ("8.8.8.8", "9.9.9.9", [], "9.9.9.9"),
        ("8.8.8.8", "pbx.example.com", [], "pbx.example.com"),
        ("10.0.0.1", "10.0.0.5", [], "10.0.0.5"),
        ("proxy.example.com", "10.0.0.5", [], "proxy.example.com"),
        ("8.8.8.8", "10.0.0.5", [P1], "p1.example.com"),
    ],
)
def test_the_way_on_to_whom_we_invited(sent_to: str, said: str, routes: list[str], hop: str) -> None:
    request = invite(*routes)
    response = accepted(request, contact=f"<sip:bob@{said}>")
    dialog = Dialog.of_client(request, response, Hop("udp", sent_to, 5080))
    assert dialog.hop == Hop("udp", hop, 5080 if hop == sent_to else 5060)
    if not routes:
        dialog.refreshed(response, None)
        assert dialog.hop.host == hop


def test_a_stream_to_whom_we_invited_is_kept() -> None:
    request = invite()
    dialog = Dialog.of_client(request, accepted(request), STREAM)
    assert (dialog.hop.transport, dialog.hop.connection) == ("tcp", 7)
