"""Session timers (RFC 4028): a call whose other side vanished does not stand for ever."""

import pytest
from sipmessage import Request, Response

from media.sip import message as sip
from media.sip.call import EndCause
from media.sip.message import Message
from media.sip.outbound import OutboundCall
from tests.sip.wires import ANSWER, LONG_MS, OFFER, Agent, Net, Peer, Told, accepting, pair

HALF_MS = 900_000


def expires(message: Message) -> str | None:
    return message.headers.get("Session-Expires")


def test_two_of_us_refresh_for_as_long_as_they_talk() -> None:
    both = pair()
    both.net.run(10 * HALF_MS)
    assert both.caller.ends == both.callee.ends == []
    assert set(both.net.names()) == {"UPDATE", "200 UPDATE"}
    assert both.net.count("UPDATE") in (9, 10)
    assert len({sent.source for sent in both.net.log if sent.name == "UPDATE"}) == 1
    both.calling.hang_up(both.net.now_ms)
    both.over()


@pytest.mark.parametrize("vanished", ["a", "b"])
def test_whoever_vanishes_ends_the_call(vanished: str) -> None:
    both = pair()
    both.net.drop = lambda sent: sent.source == vanished
    both.net.run(2 * HALF_MS)
    told = both.callee if vanished == "a" else both.caller
    assert told.end in (EndCause.lost, EndCause.timeout)
    assert both.net.count("BYE") >= 1
    both.net.run(LONG_MS)
    assert both.a.left == both.b.left == []


@pytest.mark.parametrize(
    ("headers", "said", "ours"),
    [
        ({}, "1800;refresher=uas", True),
        ({"Supported": "timer"}, "1800;refresher=uas", True),
        ({"Supported": "timer", "Session_Expires": "600"}, "600;refresher=uac", False),
        ({"Supported": "timer", "Session_Expires": "600;refresher=uac"}, "600;refresher=uac", False),
        ({"Supported": "timer", "Session_Expires": "600;refresher=uas"}, "600;refresher=uas", True),
        ({"Supported": "timer", "Session_Expires": "600 ; Refresher = UAS"}, "600;refresher=uas", True),
        ({"Supported": "timer", "Session_Expires": "99999999"}, "86400;refresher=uac", False),
        ({"Supported": "timer", "Session_Expires": "soon"}, "1800;refresher=uas", True),
        ({"Session_Expires": "20"}, "90;refresher=uas", True),
        ({"Session_Expires": "600", "Min_SE": "700"}, "700;refresher=uas", True),
        ({"Session_Expires": "600", "Min_SE": "4294967295"}, "86400;refresher=uas", True),
        ({"Session_Expires": "4294967295", "Supported": "timer"}, "86400;refresher=uac", False),
    ],
)
def test_what_an_invite_asks_for(headers: dict[str, str], said: str, ours: bool) -> None:
    """RFC 4028, 9, table 2."""
    net = Net()
    peer, b = Peer(net, "p"), Agent(net, "b", accepting(net, Told()))
    peer.request("INVITE", "b", cseq=1, sdp=OFFER, call_id="one", **headers)
    net.run(100)
    response = peer.final("INVITE")
    assert response.code == 200
    assert expires(response) == said
    assert ("timer" in sip.tokens(response, "Require")) == (not ours)
    assert b.invitations[0].session_timer.ours is ours


@pytest.mark.parametrize("allows", ["INVITE, ACK, BYE", "INVITE, ACK, BYE, UPDATE"])
def test_we_refresh_a_peer_that_knows_nothing_of_timers(allows: str) -> None:
    """RFC 4028, 7.2: by UPDATE where the peer has it, else by a re-INVITE with what stands."""
    net, told = Net(), Told()
    method = "UPDATE" if "UPDATE" in allows else "INVITE"

    def reacts(message: Message) -> None:
        if isinstance(message, Request) and message.method in ("UPDATE", "INVITE"):
            peer.reply(message, 200, tag="", sdp=OFFER if message.body else "")

    peer, b = Peer(net, "p", reacts), Agent(net, "b", accepting(net, told))
    invite = peer.request("INVITE", "b", sdp=OFFER, Allow=allows)
    net.run(100)
    peer.within(invite, peer.final("INVITE"), "ACK", cseq=1)
    net.run(3 * HALF_MS + 1000)
    refreshes = [one for one in peer.got if isinstance(one, Request) and one.method == method]
    assert len(refreshes) == 3
    assert expires(refreshes[0]) == "1800;refresher=uac"
    assert {one.body.decode() for one in refreshes} == {ANSWER if method == "INVITE" else ""}
    assert told.answers == ([OFFER] * 3 if method == "INVITE" else [])
    assert told.ends == []
    net.drop = lambda sent: sent.source == "p"
    net.run(2 * HALF_MS + LONG_MS)
    assert told.end is EndCause.timeout
    assert b.left == []


def called(**headers: str) -> tuple[Net, Peer, Agent, Told, OutboundCall, Request, Response]:
    """A peer that answers with these headers."""
    net, told = Net(), Told(OFFER)
    peer, a = Peer(net, "p"), Agent(net, "a")
    call = a.calls("p", told)
    net.run(100)
    invite = peer.last("INVITE")
    final = peer.reply(invite, 200, tag="desk", sdp=ANSWER, **headers)
    net.run(100)
    assert expires(invite) == "1800"
    return net, peer, a, told, call, invite, final


def test_the_peer_refreshes_and_then_no_more() -> None:
    """RFC 4028, 10: the BYE comes a third of the interval, at most 32 s, before its end."""
    net, peer, a, told, call, invite, final = called(Session_Expires="300;refresher=uas")
    assert not call.session_timer.ours
    for cseq in (1, 2):
        net.run(150_000)
        peer.within(invite, final, "UPDATE", cseq=cseq, Supported="timer", Session_Expires="300;refresher=uac")
    net.run(100)
    assert expires(peer.final("UPDATE")) == "300;refresher=uac"
    net.run(267_000)
    assert told.ends == []
    net.run(2000)
    assert (told.end, told.ends[0].code) == (EndCause.lost, 408)
    assert net.count("BYE") >= 1
    net.run(LONG_MS)
    assert a.left == []


@pytest.mark.parametrize("said", ["1", "0", "2;refresher=uac"])
def test_a_peer_that_wants_to_be_refreshed_all_the_time(said: str) -> None:
    """An interval below the least is the peer's fault, and no reason for a flood."""
    net, _, a, told, _, _, _ = called(Session_Expires=said)
    net.run(LONG_MS)
    assert net.count("UPDATE") + net.count("INVITE") < 50
    assert told.end is not None
    assert a.left == []


def test_a_refresh_that_is_refused_is_tried_again() -> None:
    net, peer, _, told, _, _, _ = called(Session_Expires="1800;refresher=uac", Allow="UPDATE")
    net.run(HALF_MS)
    peer.reply(peer.last("UPDATE"), 500, tag="")
    net.run(200_000)
    again = peer.last("UPDATE")
    assert sip.sequence(again) == 3
    peer.reply(again, 200, tag="", Session_Expires="1800;refresher=uac")
    net.run(HALF_MS - 30_000)
    assert told.ends == []
    assert sip.sequence(peer.last("UPDATE")) == 3


def test_a_refresh_with_an_interval_too_small_comes_again_with_a_larger_one() -> None:
    net, peer, _, told, call, _, _ = called(Session_Expires="300;refresher=uac", Allow="UPDATE")
    net.run(150_000)
    assert expires(peer.last("UPDATE")) == "300;refresher=uac"
    peer.reply(peer.last("UPDATE"), 422, tag="", Min_SE="400")
    net.run(100)
    assert expires(peer.last("UPDATE")) == "400;refresher=uac"
    assert peer.last("UPDATE").headers["Min-SE"] == "400"
    peer.reply(peer.last("UPDATE"), 200, tag="", Session_Expires="400;refresher=uac")
    net.run(100)
    assert call.session_timer.interval_s == 400
    assert told.ends == []


def test_a_call_with_an_interval_too_small_comes_again_with_a_larger_one() -> None:
    """RFC 4028, 7.4."""
    net, told = Net(), Told(OFFER)
    peer, a = Peer(net, "p"), Agent(net, "a")
    a.calls("p", told)
    net.run(100)
    first = peer.last("INVITE")
    peer.reply(first, 422, Min_SE="3600")
    net.run(100)
    second = peer.last("INVITE")
    assert sip.sequence(second) == sip.sequence(first) + 1
    assert second.call_id == first.call_id
    assert (expires(second), second.headers["Min-SE"]) == ("3600", "3600")
    peer.reply(second, 200, sdp=ANSWER, Session_Expires="3600;refresher=uac")
    net.run(100)
    assert told.stands == 1


@pytest.mark.parametrize("least", ["", "90", "nonsense", "86401"])
def test_a_422_that_cannot_be_met_is_a_refusal(least: str) -> None:
    net, told = Net(), Told(OFFER)
    peer, a = Peer(net, "p"), Agent(net, "a")
    a.calls("p", told)
    net.run(100)
    peer.reply(peer.last("INVITE"), 422, Min_SE=least)
    net.run(LONG_MS)
    assert (told.end, told.ends[0].code) == (EndCause.refused, 422)
    assert a.left == []
