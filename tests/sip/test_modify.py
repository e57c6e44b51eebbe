"""Changes of a call that stands: re-INVITE (RFC 3261, 14), UPDATE (RFC 3311), and both sides at once."""

import pytest
from sipmessage import Request, Response

from media.sip import message as sip
from media.sip.auth import Answerer, Credentials
from media.sip.call import EndCause
from media.sip.message import Message
from tests.sip.wires import ANSWER, LONG_MS, OFFER, Agent, Net, Pair, Peer, Told, accepting, pair

HOLD = OFFER + "a=sendonly\r\n"
HELD = ANSWER + "a=recvonly\r\n"


def sides(both: Pair, turned: bool) -> tuple[Told, Told]:
    """Who changes the call, and who is asked."""
    return (both.callee, both.caller) if turned else (both.caller, both.callee)


@pytest.mark.parametrize("turned", [False, True])
def test_hold_and_resume(turned: bool) -> None:
    both = pair()
    mine, other = sides(both, turned)
    call = both.called if turned else both.calling
    other.answers.clear()
    for offer, answer in ((HOLD, HELD), (OFFER, ANSWER)):
        mine.sdp, other.sdp = offer, answer
        call.modification.offer(both.net.now_ms)
        both.net.run(1000)
        assert other.offers[-1] == offer
        assert mine.answers[-1] == answer
    assert both.net.names() == ["INVITE", "200 INVITE", "ACK"] * 2
    call.hang_up(both.net.now_ms)
    both.over()


def test_a_change_that_is_refused_leaves_all_as_it_was() -> None:
    """RFC 3261, 14.1."""
    both = pair()
    both.callee.fits = False
    both.caller.answers.clear()
    both.calling.modification.offer(both.net.now_ms)
    both.net.run(10_000)
    assert both.net.names() == ["INVITE", "488 INVITE", "ACK"]
    assert both.caller.ends == both.callee.ends == []
    assert both.caller.answers == []
    both.callee.fits = True
    both.calling.modification.offer(both.net.now_ms)
    both.net.run(1000)
    assert len(both.caller.answers) == 1
    both.calling.hang_up(both.net.now_ms)
    both.over()


def test_an_answer_to_a_change_that_cannot_be_used_ends_the_call() -> None:
    both = pair()
    both.caller.fits = False
    both.calling.modification.offer(both.net.now_ms)
    both.over()
    assert (both.caller.end, both.callee.end) == (EndCause.ours, EndCause.hangup)


@pytest.mark.parametrize("seed", range(10))
def test_both_change_the_call_at_once(seed: int) -> None:
    """RFC 3261, 14.1: 491 for both, and both come again at different times."""
    both = pair(Net(seed=seed))
    both.caller.sdp, both.callee.sdp = HOLD, HELD
    both.caller.answers.clear()
    both.callee.answers.clear()
    both.calling.modification.offer(both.net.now_ms)
    both.called.modification.offer(both.net.now_ms)
    both.net.run(30_000)
    assert both.net.count("491 INVITE") >= 2
    assert both.caller.answers == [HELD]
    assert both.callee.answers == [HOLD]
    both.calling.hang_up(both.net.now_ms)
    both.over()


@pytest.mark.parametrize("seed", range(10))
def test_both_change_the_call_in_a_bad_network(seed: int) -> None:
    both = pair(Net(seed=seed))
    both.net.loss, both.net.twice, both.net.jitter_ms = 0.25, 0.2, 300
    both.calling.modification.offer(both.net.now_ms)
    both.called.modification.offer(both.net.now_ms)
    both.net.run(60_000)
    assert both.caller.ends == both.callee.ends == []
    assert len(both.caller.answers) >= 2
    assert len(both.callee.answers) >= 1
    both.net.loss = 0
    both.called.hang_up(both.net.now_ms)
    both.over()


def test_a_second_change_waits_for_the_first_and_a_refresh_does_not_push_it_away() -> None:
    both = pair()
    now_ms = both.net.now_ms
    both.caller.sdp = OFFER
    both.calling.modification.offer(now_ms)
    both.caller.sdp = HOLD
    both.calling.modification.offer(now_ms)
    both.calling.modification.refresh(now_ms)
    both.net.run(5000)
    assert both.callee.offers == [OFFER, HOLD]
    assert both.net.count("INVITE") == 2
    assert both.caller.ends == []


def test_whoever_says_491_for_ever_is_not_asked_for_ever() -> None:
    net, told = Net(), Told(OFFER)

    def reacts(message: Message) -> None:
        if isinstance(message, Request) and message.method == "INVITE":
            first = not sip.to_tag(message)
            peer.reply(message, 200 if first else 491, sdp=ANSWER if first else "")

    peer, a = Peer(net, "p", reacts), Agent(net, "a")
    call = a.calls("p", told)
    net.run(100)
    call.modification.offer(net.now_ms)
    net.run(100_000)
    assert peer.net.count("491 INVITE") == 6
    assert told.ends == []


@pytest.mark.parametrize("lost", ["INVITE", "200 INVITE", "ACK"])
def test_a_lost_message_of_a_change(lost: str) -> None:
    both = pair()
    both.net.losing(lost, times=2)
    both.calling.modification.offer(both.net.now_ms)
    both.net.run(20_000)
    assert len(both.callee.offers) == 1
    assert len(both.caller.answers) == 2
    both.called.modification.offer(both.net.now_ms)
    both.net.run(10_000)
    assert len(both.caller.offers) == 1
    both.calling.hang_up(both.net.now_ms)
    both.over()


def test_a_change_whose_answer_is_never_acknowledged_ends_the_call() -> None:
    """RFC 3261, 14.2."""
    both = pair()
    both.net.drop = lambda sent: sent.name == "ACK"
    both.calling.modification.offer(both.net.now_ms)
    both.over()
    assert (both.callee.end, both.caller.end) == (EndCause.lost, EndCause.hangup)


@pytest.mark.parametrize(("code", "cause"), [(481, EndCause.lost), (408, EndCause.lost), (0, EndCause.timeout)])
def test_a_change_that_says_that_there_is_no_call(code: int, cause: EndCause) -> None:
    """RFC 3261, 12.2.1.2: 481, 408 and no response at all end the dialog."""
    net, told = Net(), Told(OFFER)

    def reacts(message: Message) -> None:
        if isinstance(message, Request) and message.method == "INVITE":
            if not sip.to_tag(message):
                peer.reply(message, 200, sdp=ANSWER)
            elif code:
                peer.reply(message, code)

    peer, a = Peer(net, "p", reacts), Agent(net, "a")
    call = a.calls("p", told)
    net.run(100)
    call.modification.offer(net.now_ms)
    net.run(LONG_MS)
    assert told.end is cause
    assert net.count("BYE") >= 1
    assert a.left == []


@pytest.mark.parametrize("code", [401, 407])
def test_a_change_that_is_challenged(code: int) -> None:
    net, told = Net(), Told(OFFER)
    peer, a = Peer(net, "p"), Agent(net, "a")
    call = a.calls("p", told, answerer=Answerer(Credentials("bot", "secret")))
    net.run(100)
    peer.reply(peer.last("INVITE"), 200, sdp=ANSWER)
    net.run(100)
    call.modification.offer(net.now_ms)
    net.run(100)
    name = "WWW_Authenticate" if code == 401 else "Proxy_Authenticate"
    first = peer.last("INVITE")
    peer.reply(first, code, **{name: 'Digest realm="r", nonce="n", qop="auth"'})
    net.run(100)
    again = peer.last("INVITE")
    assert sip.sequence(again) == sip.sequence(first) + 1
    accepted = peer.reply(again, 200, sdp=ANSWER)
    net.run(100)
    assert told.answers == [ANSWER, ANSWER]
    peer.again("a", accepted)
    net.run(100)
    header = name.replace("WWW_Authenticate", "Authorization").replace("Proxy_Authenticate", "Proxy-Authorization")
    acks = [one for one in peer.got if isinstance(one, Request) and one.method == "ACK"][-2:]
    assert [sip.sequence(ack) for ack in acks] == [sip.sequence(again)] * 2
    assert [ack.headers.getlist(header) for ack in acks] == [again.headers.getlist(header)] * 2, "RFC 3261, 22.1"
    assert again.headers.getlist(header)
    call.hang_up(net.now_ms)
    net.run(100)
    assert sip.sequence(peer.last("BYE")) == sip.sequence(again) + 1


def test_a_repeated_2xx_of_before_is_no_answer_to_what_is_asked_now() -> None:
    net, told = Net(), Told(OFFER)
    peer, a = Peer(net, "p"), Agent(net, "a")
    call = a.calls("p", told)
    net.run(100)
    peer.reply(peer.last("INVITE"), 200, sdp=ANSWER)
    net.run(100)
    call.modification.offer(net.now_ms)
    net.run(100)
    old = peer.reply(peer.last("INVITE"), 200, sdp=HELD)
    net.run(100)
    call.modification.offer(net.now_ms)
    net.run(100)
    peer.again("a", old)
    net.run(100)
    assert told.answers == [ANSWER, HELD]
    assert net.count("ACK") == 3
    peer.reply(peer.last("INVITE"), 200, sdp=ANSWER)
    net.run(100)
    assert told.answers == [ANSWER, HELD, ANSWER]


def test_a_2xx_that_comes_when_the_call_is_over_leaves_nothing_behind() -> None:
    net, told = Net(), Told(OFFER)
    peer, a = Peer(net, "p"), Agent(net, "a")
    call = a.calls("p", told)
    net.run(100)
    first = peer.last("INVITE")
    answer = peer.reply(first, 200, sdp=ANSWER)
    net.run(100)
    call.modification.offer(net.now_ms)
    net.run(100)
    peer.within(first, answer, "BYE", cseq=1)
    net.run(100)
    peer.reply(peer.last("INVITE"), 200, sdp=ANSWER)
    net.run(100)
    assert net.count("ACK") == 2  # also of a call that is over (RFC 3261, 13.2.2.4)
    net.run(LONG_MS)
    assert a.left == []


def standing(sdp: str = ANSWER, **headers: str) -> tuple[Net, Peer, Agent, Told, Request, Response]:
    """A call of a peer's."""
    net, told = Net(), Told(sdp)
    peer, b = Peer(net, "p"), Agent(net, "b", accepting(net, told))
    invite = peer.request("INVITE", "b", cseq=1, sdp=OFFER, call_id="one", **headers)
    net.run(100)
    final = peer.final("INVITE")
    peer.within(invite, final, "ACK", cseq=1)
    net.run(100)
    return net, peer, b, told, invite, final


def test_a_change_without_an_offer_gets_ours() -> None:
    net, peer, _, told, invite, final = standing()
    peer.within(invite, final, "INVITE", cseq=2)
    net.run(100)
    assert peer.final("INVITE").body.decode() == ANSWER
    peer.within(invite, final, "INVITE", cseq=3, sdp=OFFER)  # before it answered
    peer.within(invite, final, "UPDATE", cseq=4, sdp=OFFER)
    peer.within(invite, final, "UPDATE", cseq=5)
    net.run(100)
    assert peer.codes("INVITE")[-1] == 491
    assert peer.codes("UPDATE") == [491, 200]
    peer.within(invite, final, "ACK", cseq=2, sdp=HELD)
    net.run(100)
    assert told.answers == [HELD]
    assert told.ends == []


@pytest.mark.parametrize(
    ("sdp", "headers", "code"),
    [
        ("", {}, 200),
        (HOLD, {}, 200),
        ("what", {"Content_Type": "text/plain"}, 415),
        (HOLD, {"Session_Expires": "10", "Supported": "timer"}, 422),
        ("", {"Session_Expires": "10", "Supported": "timer"}, 422),
        (HOLD, {"Require": "wonder"}, 420),
    ],
)
@pytest.mark.parametrize("method", ["UPDATE", "INVITE"])
def test_changes_by_hand(method: str, sdp: str, headers: dict[str, str], code: int) -> None:
    net, peer, _, told, invite, final = standing()
    peer.within(invite, final, method, cseq=2, sdp=sdp, **headers)
    net.run(100)
    response = peer.final(method)
    assert response.code == code
    assert told.offers == ([HOLD] if code == 200 and sdp else [])
    assert bool(response.body) == (code == 200 and (bool(sdp) or method == "INVITE"))
    if code == 200:
        assert sip.values(response, "Contact")
    assert told.ends == []


def test_an_update_with_an_offer_that_does_not_fit() -> None:
    net, peer, _, told, invite, final = standing()
    told.fits = False
    peer.within(invite, final, "UPDATE", cseq=2, sdp=HOLD)
    net.run(100)
    assert peer.codes("UPDATE") == [488]
    assert told.ends == []


def test_a_peer_that_moves_is_found_where_it_went() -> None:
    """RFC 3261, 12.2: the target of what we send follows its Contact; one that is none changes nothing."""
    net, peer, b, _, invite, final = standing()
    peer.within(invite, final, "UPDATE", cseq=2, Contact="<sip:moved@q:5060>")
    peer.within(invite, final, "UPDATE", cseq=3, Contact="<tel:+491>")
    net.run(100)
    assert peer.codes("UPDATE") == [200, 200]
    b.invitations[0].hang_up(net.now_ms)
    net.run(100)
    assert str(net.requests[-1].uri) == "sip:moved@q:5060"


@pytest.mark.parametrize("reliably", [True, False])
def test_changes_before_the_answer(reliably: bool) -> None:
    """RFC 3311, 5.2, and RFC 3261, 14.2: 500, for the first offer has no answer yet."""
    net = Net()
    peer, b = Peer(net, "p"), Agent(net, "b", lambda call: call.ring(net.now_ms))
    headers = {"Supported": "100rel"} if reliably else {}
    invite = peer.request("INVITE", "b", cseq=1, sdp=OFFER, call_id="one", **headers)
    net.run(100)
    ring = peer.final("INVITE")
    if reliably:
        told = Told()
        b.invitations[0].accept(ANSWER, told, net.now_ms)
    for cseq, sdp in ((2, ""), (3, HOLD)):
        peer.within(invite, ring, "UPDATE", cseq=cseq, sdp=sdp)
        net.run(100)
    peer.within(invite, ring, "INVITE", cseq=4, sdp=HOLD)
    peer.within(invite, ring, "REFER", cseq=5, Refer_To="<sip:c@c>")
    peer.within(invite, ring, "INFO", cseq=6)
    net.run(100)
    assert peer.codes("UPDATE") == [200, 500]
    assert peer.codes("INVITE")[-1] == 500
    assert "Retry-After" in peer.final("INVITE").headers.keys()  # noqa: SIM118  # it has no `in` of its own
    assert (peer.codes("REFER"), peer.codes("INFO")) == ([603], [200])
    peer.within(invite, ring, "BYE", cseq=7)
    net.run(LONG_MS)
    assert b.left == []


def test_what_comes_after_our_bye_is_not_of_the_call_any_more() -> None:
    net, peer, b, told, invite, final = standing()
    b.invitations[0].hang_up(net.now_ms)
    for cseq, method in enumerate(("INVITE", "UPDATE", "INFO", "OPTIONS", "NOTIFY", "PRACK"), start=2):
        peer.within(invite, final, method, cseq=cseq, sdp=HOLD if method == "INVITE" else "")
        net.run(100)
        assert peer.codes(method)[-1] == 481
    assert told.offers == []
    peer.within(invite, final, "BYE", cseq=9)
    net.run(100)
    assert peer.codes("BYE") == [200]
    net.run(LONG_MS)
    assert b.left == []


def test_a_change_that_is_neither_answered_nor_refused_is_given_up() -> None:
    """A peer that says 100 and nothing more must not hold the call's one offer for ever."""
    net, told = Net(), Told(OFFER)

    def reacts(message: Message) -> None:
        if isinstance(message, Request) and message.method == "INVITE":
            peer.reply(message, 100) if sip.to_tag(message) else peer.reply(message, 200, sdp=ANSWER)

    peer, a = Peer(net, "p", reacts), Agent(net, "a")
    call = a.calls("p", told)
    net.run(100)
    call.modification.offer(net.now_ms)
    net.run(2 * LONG_MS)
    assert told.end is EndCause.timeout
    assert a.left == []


def test_a_change_that_is_under_way_at_the_end_leaves_nothing_behind() -> None:
    net, told = Net(), Told(OFFER)

    def reacts(message: Message) -> None:
        if isinstance(message, Request) and message.method == "INVITE":
            peer.reply(message, 100) if sip.to_tag(message) else peer.reply(message, 200, sdp=ANSWER)
        elif isinstance(message, Request) and message.method == "BYE":
            peer.reply(message, 200)

    peer, a = Peer(net, "p", reacts), Agent(net, "a")
    call = a.calls("p", told)
    net.run(100)
    call.modification.offer(net.now_ms)
    net.run(100)
    call.hang_up(net.now_ms)
    net.run(LONG_MS)
    assert a.left == []


def test_the_way_through_proxies_is_kept() -> None:
    """RFC 3261, 12.1.1: Record-Route comes back in the 2xx, and is the route of what we send."""
    net, told = Net(), Told()
    peer, b = Peer(net, "p"), Agent(net, "b", accepting(net, told))
    route = "<sip:proxy;lr>"
    invite = peer.request("INVITE", "b", sdp=OFFER, Record_Route=route)
    net.run(100)
    assert sip.values(peer.final("INVITE"), "Record-Route") == [route]
    peer.within(invite, peer.final("INVITE"), "ACK", cseq=1)
    net.run(100)
    b.invitations[0].hang_up(net.now_ms)
    assert net.log[-1].to == "proxy"
    assert sip.values(net.requests[-1], "Route") == [route]


def test_what_every_request_of_ours_says() -> None:
    """RFC 3261, 8.1.1 and 12.2.1.1; RFC 6665, 8.1: a NOTIFY and a PRACK have a Contact too."""
    both = pair()
    both.calling.transfers.ask("sip:c@c", both.net.now_ms)
    both.calling.modification.offer(both.net.now_ms)
    both.net.run(1000)
    both.calling.modification.refresh(both.net.now_ms)
    both.net.run(1000)
    both.called.hang_up(both.net.now_ms)
    both.net.run(1000)
    said = {one.method: one for one in both.net.requests if one.method != "ACK"}
    assert set(said) == {"REFER", "NOTIFY", "INVITE", "UPDATE", "BYE"}
    for request in said.values():
        assert sip.values(request, "Contact")
        assert "UPDATE" in sip.values(request, "Allow")
        assert request.headers["Max-Forwards"] == "70"
        assert request.headers["User-Agent"] == "Voicegate"


def test_a_change_teaches_what_the_peer_can_do_now() -> None:
    net, told = Net(), Told(OFFER)
    peer, a = Peer(net, "p"), Agent(net, "a")
    call = a.calls("p", told)
    net.run(100)
    peer.reply(peer.last("INVITE"), 200, sdp=ANSWER, Allow="INVITE, ACK, BYE")
    net.run(100)
    call.modification.refresh(net.now_ms)
    net.run(100)
    peer.reply(peer.last("INVITE"), 200, tag="", sdp=ANSWER, Allow="INVITE, ACK, BYE, UPDATE")
    net.run(100)
    call.modification.refresh(net.now_ms)
    net.run(100)
    assert [one.method for one in net.requests] == ["INVITE", "ACK", "INVITE", "ACK", "UPDATE"]
