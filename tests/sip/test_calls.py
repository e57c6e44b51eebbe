"""Whole calls between two user agents: how they come about, how they end, and what the network may do to them."""

import pytest

from media.sip.call import EndCause
from media.sip.inbound import InboundCall
from tests.sip.wires import ANSWER, LONG_MS, OFFER, Agent, Net, Pair, Peer, Told, accepting, pair


def hung_up(both: Pair) -> None:
    both.calling.hang_up(both.net.now_ms)
    both.over()


# Both sides well


def test_a_call_that_the_caller_ends() -> None:
    net = Net()
    caller, callee = Told(OFFER), Told(ANSWER)
    a, b = Agent(net, "a"), Agent(net, "b", accepting(net, callee))
    call = a.calls("b", caller)
    net.run()
    assert b.invitations[0].offer == OFFER
    assert b.invitations[0].identity == ("bot", "desk")
    assert caller.answers == [ANSWER]
    assert caller.stands == callee.stands == 1
    call.hang_up(net.now_ms, 'SIP;cause=200;text="done"')
    net.run(LONG_MS)
    assert caller.end is EndCause.ours
    assert callee.end is EndCause.hangup
    assert callee.ends[0].reason == 'SIP;cause=200;text="done"'
    assert (net.count("INVITE"), net.count("BYE")) == (1, 1)
    assert a.left == b.left == []


def test_a_call_that_the_callee_ends() -> None:
    both = pair()
    both.called.hang_up(both.net.now_ms)
    both.over()
    assert (both.caller.end, both.callee.end) == (EndCause.hangup, EndCause.ours)
    assert both.net.names() == ["BYE", "200 BYE"]


def test_over_a_stream_nothing_is_repeated() -> None:
    both = pair(Net("tcp"))
    hung_up(both)
    assert both.net.names() == ["BYE", "200 BYE"]


def test_hang_up_twice_is_once() -> None:
    both = pair()
    both.calling.hang_up(both.net.now_ms)
    hung_up(both)
    assert both.net.count("BYE") == 1


def test_a_call_that_is_refused() -> None:
    net, told = Net(), Told(OFFER)
    a, b = Agent(net, "a"), Agent(net, "b", lambda call: call.reject(486, net.now_ms, Retry_After="60"))
    a.calls("b", told)
    net.run(LONG_MS)
    assert (told.end, told.ends[0].code, told.stands) == (EndCause.refused, 486, 0)
    assert net.names() == ["INVITE", "100 INVITE", "486 INVITE", "ACK"]
    assert a.left == b.left == []


def test_digits_by_info() -> None:
    net, told = Net(), Told()
    peer, agent = Peer(net, "p"), Agent(net, "b", accepting(net, told))
    invite = peer.request("INVITE", "b", sdp=OFFER)
    net.run(100)
    final = peer.final("INVITE")
    peer.within(invite, final, "ACK", cseq=1)
    relay = "application/dtmf-relay"
    peer.within(invite, final, "INFO", cseq=2, sdp="Signal=5\r\nDuration=250\r\n", Content_Type=relay)
    net.run(100)
    peer.within(invite, final, "INFO", cseq=3, sdp="what", Content_Type="text/plain")
    net.run(100)
    peer.within(invite, final, "INFO", cseq=4)
    net.run(100)
    assert told.keys == [("5", 250)]
    assert peer.codes("INFO") == [200, 415, 200]
    assert agent.endpoint.calls


# Something is lost


@pytest.mark.parametrize("name", ["INVITE", "100 INVITE", "200 INVITE", "ACK"])
@pytest.mark.parametrize("times", [1, 4])
def test_what_is_lost_on_the_way_to_the_call_comes_again(name: str, times: int) -> None:
    net = Net()
    net.losing(name, times=times)
    both = pair(net, within_ms=20_000)
    assert len(both.b.invitations) == 1
    hung_up(both)


def test_the_2xx_is_repeated_until_the_ack_even_over_a_stream() -> None:
    """RFC 3261, 13.3.1.4: T1, doubled up to T2, for 64*T1."""
    net, callee = Net("tcp"), Told()
    peer, b = Peer(net, "p"), Agent(net, "b", accepting(net, callee))
    peer.request("INVITE", "b", sdp=OFFER)
    net.run(10_000)
    assert net.count("200 INVITE") == 1 + 4  # after 0.5, 1.5, 3.5 and 7.5 s
    net.run(LONG_MS)
    assert b.left == []


def test_without_any_ack_the_call_ends_with_a_bye() -> None:
    """RFC 3261, 13.3.1.4."""
    net, caller, callee = Net(), Told(OFFER), Told()
    a, b = Agent(net, "a"), Agent(net, "b", accepting(net, callee))
    net.drop = lambda sent: sent.name == "ACK"
    a.calls("b", caller)
    net.run(31_000)
    assert callee.end is None
    net.run(LONG_MS)
    assert callee.end is EndCause.lost
    assert callee.stands == 0
    assert caller.end is EndCause.hangup
    assert net.count("BYE") == 1
    assert a.left == b.left == []


@pytest.mark.parametrize("name", ["BYE", "200 BYE"])
def test_a_lost_bye_or_its_answer(name: str) -> None:
    both = pair()
    both.net.losing(name, times=3)
    hung_up(both)
    assert (both.caller.end, both.callee.end) == (EndCause.ours, EndCause.hangup)


def test_a_bye_that_nobody_answers_still_ends_the_call() -> None:
    both = pair()
    both.net.drop = lambda sent: sent.source == "b"
    hung_up(both)


@pytest.mark.parametrize("seed", range(60))
def test_a_bad_network_makes_one_call_that_ends_everywhere(seed: int) -> None:
    net = Net(seed=seed)
    net.loss, net.twice, net.jitter_ms = 0.3, 0.2, 400
    caller, callee = Told(OFFER), Told(ANSWER)
    a, b = Agent(net, "a"), Agent(net, "b", accepting(net, callee))
    call = a.calls("b", caller)
    net.run(40_000)
    assert len(b.invitations) == 1
    (call, b.invitations[0])[seed % 2].hang_up(net.now_ms)
    net.run(LONG_MS)
    assert caller.end is not None
    assert callee.end is not None
    assert max(caller.stands, callee.stands) <= 1
    assert a.left == b.left == []


@pytest.mark.parametrize("seed", range(20))
def test_a_hang_up_at_any_time_in_a_bad_network(seed: int) -> None:
    net = Net(seed=seed)
    net.loss, net.twice, net.jitter_ms = 0.3, 0.2, 1000
    caller, callee = Told(OFFER), Told(ANSWER)
    a, b = Agent(net, "a"), Agent(net, "b", accepting(net, callee))
    call = a.calls("b", caller)
    net.run(seed * 150)
    call.hang_up(net.now_ms)
    net.run(2 * LONG_MS)
    assert caller.end is not None
    assert len(b.invitations) <= 1
    assert len(callee.ends) == len(b.invitations)
    assert a.left == b.left == []


def test_nobody_is_there() -> None:
    """RFC 3261, 8.1.3.1: as a 408."""
    net, told = Net(), Told(OFFER)
    a = Agent(net, "a")
    a.calls("nowhere", told)
    net.run(31_000)
    assert told.ends == []
    net.run(LONG_MS)
    assert (told.end, told.ends[0].code) == (EndCause.timeout, 408)
    assert net.count("INVITE") == 7
    assert a.left == []


def test_no_way_to_the_peer() -> None:
    """RFC 3261, 8.1.3.1: as a 503."""
    net, told = Net("tcp"), Told(OFFER)
    a = Agent(net, "a")
    a.calls("b", told)
    a.endpoint.failed(a.hop("elsewhere"), net.now_ms)
    assert told.ends == []
    a.endpoint.failed(a.hop("b"), net.now_ms)
    assert (told.end, told.ends[0].code) == (EndCause.lost, 503)
    assert a.left == []


def test_a_stream_that_breaks_under_a_request_of_a_call_ends_the_call() -> None:
    both = pair(Net("tcp"))
    both.net.drop = lambda sent: True
    both.called.modification.offer(both.net.now_ms)
    both.b.endpoint.failed(both.called.stands.hop, both.net.now_ms)
    assert both.callee.end is EndCause.lost
    both.net.run(LONG_MS)
    assert both.b.left == []


# Hanging up at odd times


def test_no_bye_before_the_ack() -> None:
    """RFC 3261, 15: whoever was called waits for the ACK."""
    net, caller, callee = Net(), Told(OFFER), Told()
    a, b = Agent(net, "a"), Agent(net, "b", accepting(net, callee))
    net.losing("ACK", times=2)
    a.calls("b", caller)
    net.run(100)
    b.invitations[0].hang_up(net.now_ms)
    assert callee.end is EndCause.ours
    net.run(LONG_MS)
    assert caller.end is EndCause.hangup
    assert net.names().index("BYE") > [at for at, name in enumerate(net.names()) if name == "ACK"][2]
    assert net.count("BYE") == 1
    assert a.left == b.left == []


def test_hung_up_before_an_ack_that_never_comes() -> None:
    net, callee = Net(), Told()
    peer, b = Peer(net, "p"), Agent(net, "b", accepting(net, callee))
    peer.request("INVITE", "b", sdp=OFFER)
    net.run(100)
    b.invitations[0].hang_up(net.now_ms)
    net.run(31_000)
    assert net.count("BYE") == 0
    net.run(LONG_MS)
    assert net.count("BYE") > 0
    assert b.left == []


def test_two_byes_that_cross() -> None:
    both = pair()
    both.calling.hang_up(both.net.now_ms)
    both.called.hang_up(both.net.now_ms)
    both.over()
    assert both.caller.end is both.callee.end is EndCause.ours


def test_a_bye_in_the_early_dialog_ends_the_invitation() -> None:
    """RFC 3261, 15: the caller may, and the INVITE gets its 487 (15.1.2)."""
    net = Net()
    peer, b = Peer(net, "p"), Agent(net, "b", lambda call: call.ring(net.now_ms))
    invite = peer.request("INVITE", "b", sdp=OFFER)
    net.run(100)
    peer.within(invite, peer.final("INVITE"), "BYE", cseq=2)
    net.run(100)
    assert peer.codes("BYE") == [200]
    assert peer.codes("INVITE")[-1] == 487
    late = Told()
    b.invitations[0].accept(ANSWER, late, net.now_ms)
    assert late.end is EndCause.cancelled
    net.run(LONG_MS)
    assert b.left == []


def test_a_listener_may_hang_up_on_whatever_it_is_told() -> None:
    class Fickle(Told):
        def answered(self, sdp: str, now_ms: int) -> bool:
            call.hang_up(now_ms)
            return True

    net, told = Net(), Fickle(OFFER)
    a, b = Agent(net, "a"), Agent(net, "b", accepting(net, Told()))
    call = a.calls("b", told)
    net.run(LONG_MS)
    assert (told.end, told.stands) == (EndCause.ours, 0)
    assert a.left == b.left == []


# Offers and answers


def test_an_invite_without_an_offer_gets_ours_and_answers_it_in_the_ack() -> None:
    """RFC 3261, 13.2.1."""
    net, callee = Net(), Told(OFFER)
    peer, b = Peer(net, "p"), Agent(net, "b", accepting(net, callee))
    invite = peer.request("INVITE", "b")
    net.run(100)
    assert b.invitations[0].offer == ""
    assert peer.final("INVITE").body.decode() == OFFER
    peer.within(invite, peer.final("INVITE"), "ACK", cseq=1, sdp=ANSWER)
    net.run(100)
    assert callee.answers == [ANSWER]
    assert callee.stands == 1
    assert callee.end is None


@pytest.mark.parametrize(("sdp", "kind", "fits"), [("", "", True), (ANSWER, "text/plain", True), (ANSWER, "", False)])
def test_an_answer_in_the_ack_that_cannot_be_used_ends_the_call(sdp: str, kind: str, fits: bool) -> None:
    net, callee = Net(), Told(OFFER, fits=fits)
    peer, b = Peer(net, "p"), Agent(net, "b", accepting(net, callee))
    invite = peer.request("INVITE", "b")
    net.run(100)
    headers = {"Content_Type": kind} if kind else {}
    peer.within(invite, peer.final("INVITE"), "ACK", cseq=1, sdp=sdp, **headers)
    net.run(100)
    assert callee.end is EndCause.ours
    assert "488" in (peer.last("BYE").headers.get("Reason") or "")
    peer.reply(peer.last("BYE"), 200, tag="")
    net.run(LONG_MS)
    assert b.left == []


@pytest.mark.parametrize(("sdp", "fits"), [("", True), (ANSWER, False)])
def test_an_answer_in_the_2xx_that_cannot_be_used_ends_the_call(sdp: str, fits: bool) -> None:
    """RFC 3261, 13.2.2.4: acknowledged first, then hung up."""
    net, caller = Net(), Told(OFFER, fits=fits)
    a, b = Agent(net, "a"), Agent(net, "b", accepting(net, Told(sdp)))
    a.calls("b", caller)
    net.run(LONG_MS)
    assert (caller.end, caller.ends[0].code, caller.stands) == (EndCause.refused, 488, 0)
    assert net.names().index("ACK") < net.names().index("BYE")
    assert a.left == b.left == []


# Odd users


def test_what_an_app_does_with_a_call_that_is_gone() -> None:
    net = Net()
    peer = Peer(net, "p")
    calls: list[InboundCall] = []
    b = Agent(net, "b", calls.append)
    peer.request("INVITE", "b", sdp=OFFER)
    net.run(100)
    calls[0].hang_up(net.now_ms)
    calls[0].reject(486, net.now_ms)
    calls[0].ring(net.now_ms)
    net.run(100)
    assert peer.codes("INVITE") == [100, 480]
    net.run(LONG_MS)
    assert b.left == []
