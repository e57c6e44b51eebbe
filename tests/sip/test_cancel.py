"""Giving up a call that nobody has answered yet (RFC 3261, 9)."""

import pytest
from sipmessage import Request

from media.sip import message as sip
from media.sip.call import EndCause
from media.sip.message import Message
from tests.sip.wires import ANSWER, LONG_MS, OFFER, Agent, Net, Peer, Told, accepting


def test_a_call_is_given_up_while_it_rings() -> None:
    net, told = Net(), Told(OFFER)
    a, b = Agent(net, "a"), Agent(net, "b", lambda call: call.ring(net.now_ms))
    call = a.calls("b", told)
    net.run(3000)
    assert told.codes == [180]
    call.hang_up(net.now_ms)
    assert told.end is EndCause.ours
    net.run(100)
    assert [name for name in net.names() if "CANCEL" in name] == ["CANCEL", "200 CANCEL"]
    assert net.names()[-2:] == ["487 INVITE", "ACK"]
    late = Told()
    b.invitations[0].accept(ANSWER, late, net.now_ms)
    assert (late.end, late.stands) == (EndCause.cancelled, 0)
    net.run(LONG_MS)
    assert a.left == b.left == []


def test_the_cancel_is_the_invite_in_all_but_its_name() -> None:
    """RFC 3261, 9.1."""
    net = Net()
    peer, a = Peer(net, "p"), Agent(net, "a")
    call = a.calls("p", Told(OFFER), headers=[("Route", "<sip:p;lr>")])
    net.run(100)
    invite = peer.last("INVITE")
    peer.reply(invite, 180)
    net.run(100)
    call.hang_up(net.now_ms)
    net.run(100)
    cancel = peer.last("CANCEL")
    for name in ("From", "To", "Call-ID", "Route", "Via"):
        assert cancel.headers.getlist(name) == invite.headers.getlist(name)
    assert str(cancel.uri) == str(invite.uri)
    assert sip.sequence(cancel) == sip.sequence(invite)
    assert not cancel.body


def test_no_cancel_before_a_provisional_response() -> None:
    """RFC 3261, 9.1: nobody knows yet what to cancel."""
    net, told = Net(), Told(OFFER)
    peer, a = Peer(net, "p"), Agent(net, "a")
    call = a.calls("p", told)
    net.run(100)
    call.hang_up(net.now_ms)
    assert told.end is EndCause.ours
    net.run(5000)
    assert net.count("CANCEL") == 0
    peer.reply(peer.last("INVITE"), 100)
    net.run(100)
    assert net.count("CANCEL") == 1
    peer.reply(peer.last("CANCEL"), 200)
    peer.reply(peer.last("INVITE"), 487)
    net.run(LONG_MS)
    assert net.count("CANCEL") == 1
    assert a.left == []


@pytest.mark.parametrize("code", [486, 603, 302, 401, 422])
def test_given_up_and_refused_before_any_provisional_response(code: int) -> None:
    net, told = Net(), Told(OFFER)
    peer, a = Peer(net, "p"), Agent(net, "a")
    call = a.calls("p", told)
    net.run(100)
    call.hang_up(net.now_ms)
    peer.reply(peer.last("INVITE"), code, Min_SE="100")
    net.run(LONG_MS)
    assert told.end is EndCause.ours
    assert net.count("CANCEL") == 0
    assert len({sip.sequence(one) for one in net.requests}) == 1
    assert a.left == []


def test_given_up_where_nobody_is() -> None:
    net, told = Net(), Told(OFFER)
    a = Agent(net, "a")
    call = a.calls("nowhere", told)
    net.run(1000)
    call.hang_up(net.now_ms)
    net.run(LONG_MS)
    assert told.end is EndCause.ours
    assert a.left == []


def test_a_cancel_that_crosses_the_answer() -> None:
    """RFC 3261, 15: the call stands for a moment, and is hung up."""
    net, caller, callee = Net(), Told(OFFER), Told()
    a, b = Agent(net, "a"), Agent(net, "b", lambda call: call.ring(net.now_ms))
    call = a.calls("b", caller)
    net.run(1000)
    net.log.clear()
    call.hang_up(net.now_ms)
    b.invitations[0].accept(ANSWER, callee, net.now_ms)
    net.run(LONG_MS)
    assert net.names() == ["CANCEL", "200 INVITE", "200 CANCEL", "ACK", "BYE", "200 BYE"]
    assert (caller.end, callee.end) == (EndCause.ours, EndCause.hangup)
    assert (caller.stands, caller.answers) == (0, [])
    assert a.left == b.left == []


def test_given_up_before_any_response_and_answered_at_once() -> None:
    net, caller, callee = Net(), Told(OFFER), Told()
    a, b = Agent(net, "a"), Agent(net, "b", lambda call: call.accept(ANSWER, callee, net.now_ms))
    net.drop = lambda sent: sent.name == "100 INVITE"
    call = a.calls("b", caller)
    call.hang_up(net.now_ms)
    net.run(LONG_MS)
    assert (caller.end, callee.end) == (EndCause.ours, EndCause.hangup)
    assert a.left == b.left == []


@pytest.mark.parametrize("name", ["CANCEL", "200 CANCEL", "487 INVITE", "ACK"])
def test_a_lost_message_of_a_cancelled_call(name: str) -> None:
    net, told = Net(), Told(OFFER)
    a, b = Agent(net, "a"), Agent(net, "b", lambda call: call.ring(net.now_ms))
    call = a.calls("b", told)
    net.run(1000)
    net.losing(name, times=2)
    call.hang_up(net.now_ms)
    net.run(LONG_MS)
    assert told.end is EndCause.ours
    assert a.left == b.left == []


def test_a_cancel_without_an_end_is_the_end() -> None:
    """RFC 3261, 9.1: 64*T1 after the CANCEL the caller waits no more."""
    net, told = Net(), Told(OFFER)

    def reacts(message: Message) -> None:
        if isinstance(message, Request):
            peer.reply(message, 180 if message.method == "INVITE" else 200)
            if message.method == "CANCEL":
                peer.reply(peer.last("INVITE"), 180)

    peer, a = Peer(net, "p", reacts), Agent(net, "a")
    call = a.calls("p", told)
    net.run(1000)
    call.hang_up(net.now_ms)
    net.run(31_000)
    assert a.left != []
    net.run(2000)
    assert a.left == []


def test_nobody_answers_in_time() -> None:
    net, told = Net(), Told(OFFER)
    a, b = Agent(net, "a"), Agent(net, "b", lambda call: call.ring(net.now_ms))
    a.calls("b", told, answer_ms=20_000)
    net.run(19_900)
    assert told.ends == []
    net.run(200)
    assert (told.end, told.ends[0].code) == (EndCause.timeout, 408)
    net.run(LONG_MS)
    assert net.count("CANCEL") == 1
    assert a.left == b.left == []


def test_cancelled_by_hand() -> None:
    net = Net()
    peer, b = Peer(net, "p"), Agent(net, "b", lambda call: call.ring(net.now_ms))
    invite = peer.request("INVITE", "b", sdp=OFFER)
    net.run(100)
    wrong = peer.request("CANCEL", "b")  # of some other transaction
    net.run(100)
    assert peer.codes("CANCEL") == [481]
    assert sip.top_via(wrong).parameters != sip.top_via(invite).parameters
    for _ in range(2):
        peer.request("CANCEL", "b", Via=invite.headers["Via"])
        net.run(100)
    assert peer.codes("CANCEL") == [481, 200, 200]
    assert peer.codes("INVITE") == [100, 180, 487]
    assert sip.to_tag(peer.final("CANCEL")) == sip.to_tag(peer.final("INVITE"))
    peer.request("ACK", "b", Via=invite.headers["Via"], To=peer.final("INVITE").headers["To"])
    net.run(10_000)
    assert peer.codes("INVITE") == [100, 180, 487]
    net.run(LONG_MS)
    assert b.left == []


def test_a_cancel_after_the_answer_changes_nothing() -> None:
    """RFC 3261, 9.2."""
    net, told = Net(), Told()
    peer = Peer(net, "p")
    Agent(net, "b", accepting(net, told))
    invite = peer.request("INVITE", "b", sdp=OFFER)
    net.run(100)
    peer.request("CANCEL", "b", Via=invite.headers["Via"])
    peer.within(invite, peer.final("INVITE"), "ACK", cseq=1)
    net.run(100)
    assert peer.codes("CANCEL") == [200]
    assert told.stands == 1
    assert told.ends == []
