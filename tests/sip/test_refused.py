"""What a user agent refuses, what it is refused, and who may prove who it is."""

import pytest
from sipmessage import Request

from media.sip import message as sip
from media.sip.auth import Answerer, Asker, Credentials, Known
from media.sip.call import EndCause
from media.sip.endpoint import Refusal
from media.sip.message import Hop, Message, MessageError
from tests.sip.wires import ANSWER, LONG_MS, OFFER, Agent, Net, Peer, Told, accepting, pair


@pytest.mark.parametrize(
    ("method", "headers", "code"),
    [
        ("INVITE", {"Content_Type": "text/plain"}, 415),
        ("INVITE", {"Max_Forwards": "0"}, 483),
        ("INVITE", {"Require": "100rel, wonder"}, 420),
        ("INVITE", {"Contact": ""}, 400),
        ("INVITE", {"Contact": "<tel:+4912345>"}, 400),
        ("INVITE", {"Replaces": "rubbish"}, 400),
        ("INVITE", {"Session_Expires": "20", "Supported": "timer"}, 422),
        ("INVITE", {"To": "<sip:bot@b>;tag=unknown"}, 481),
        ("BYE", {}, 481),
        ("BYE", {"To": "<sip:bot@b>;tag=unknown"}, 481),
        ("CANCEL", {}, 481),
        ("UPDATE", {}, 481),
        ("PRACK", {}, 481),
        ("NOTIFY", {"Event": "refer"}, 481),
        ("REFER", {"Refer_To": "<sip:c@c>"}, 481),
        ("MESSAGE", {}, 405),
        ("SUBSCRIBE", {}, 405),
        ("A", {}, 405),
        ("OPTIONS", {}, 200),
        ("OPTIONS", {"Max_Forwards": "0"}, 200),
    ],
)
def test_requests_outside_any_call(method: str, headers: dict[str, str], code: int) -> None:
    net = Net()
    peer, b = Peer(net, "p"), Agent(net, "b")
    request = peer.request(method, "b", cseq=1, sdp=OFFER if method == "INVITE" else "", call_id="c", **headers)
    net.run(100)
    assert peer.codes(method) == [code]
    response = peer.final(method)
    assert sip.to_tag(response)
    if code == 420:
        assert response.headers["Unsupported"] == "wonder"
    if code == 415:
        assert response.headers["Accept"] == "application/sdp"
    if code == 422:
        assert response.headers["Min-SE"] == "90"
    if code in (405, 200):
        assert "INVITE" in sip.values(response, "Allow")
    assert b.invitations == []
    if method == "INVITE":
        peer.again("b", request)
        net.run(100)
        assert set(peer.codes(method)) == {code}
    net.run(LONG_MS)
    assert b.left == []


@pytest.mark.parametrize("uri", ["http://example.com/", "mailto:a@b", "sip:", "<>"])
def test_an_address_that_is_none_of_ours(uri: str) -> None:
    """416 (RFC 3261, 8.2.2.1)."""
    net = Net()
    peer, b = Peer(net, "p"), Agent(net, "b")
    made = peer.request("OPTIONS", "nowhere")
    data = sip.write(made).replace(b"OPTIONS sip:bot@nowhere", f"OPTIONS {uri}".encode(), 1)
    net.send("p", Hop("udp", "b", 5060), data)
    net.run(100)
    assert peer.codes("OPTIONS") == [416]
    assert b.left == []


def test_the_same_invite_by_another_way_is_a_loop() -> None:
    """482 (RFC 3261, 8.2.2.2)."""
    net = Net()
    peer, b = Peer(net, "p"), Agent(net, "b")
    peer.request("INVITE", "b", sdp=OFFER)
    peer.request("INVITE", "b", sdp=OFFER)
    net.run(100)
    assert peer.codes("INVITE") == [100, 482]
    assert len(b.invitations) == 1


def test_a_malformed_request_is_answered_on_streams_only() -> None:
    net = Net("tcp")
    peer, b = Peer(net, "p"), Agent(net, "b")
    request = peer.request("OPTIONS", "nowhere")
    b.endpoint.malformed(MessageError("odd", request), Hop("tcp", "p", 5060, 1))
    b.endpoint.malformed(MessageError("odd", request), Hop("udp", "p", 5060))
    b.endpoint.malformed(MessageError("no request at all"), Hop("tcp", "p", 5060, 1))
    net.run(100)
    assert peer.codes("OPTIONS") == [400]
    assert b.left == []


def test_requests_out_of_order_within_a_call() -> None:
    """RFC 3261, 12.2.2: 500, and the call goes on."""
    net, told = Net(), Told()
    peer = Peer(net, "p")
    Agent(net, "b", accepting(net, told))
    invite = peer.request("INVITE", "b", sdp=OFFER, cseq=7)
    net.run(100)
    final = peer.final("INVITE")
    peer.within(invite, final, "ACK", cseq=7)
    for cseq in (10, 9, 10, 11):
        peer.within(invite, final, "OPTIONS", cseq=cseq)
        net.run(100)
    assert peer.codes("OPTIONS") == [200, 500, 500, 200]
    peer.within(invite, final, "INFO", cseq=12, Require="wonder")
    peer.within(invite, final, "PUBLISH", cseq=13)
    net.run(100)
    assert (peer.codes("INFO"), peer.codes("PUBLISH")) == ([420], [405])
    assert told.ends == []


def test_a_stranger_cannot_end_a_call() -> None:
    both = pair()
    request = both.net.requests  # nothing yet
    assert request == []
    peer = Peer(both.net, "p")
    call_id, tag = both.called.key
    peer.request("BYE", "b", call_id=call_id, To=f"<sip:bot@b>;tag={tag}")
    peer.request("BYE", "b", call_id="other", To=f"<sip:bot@b>;tag={tag}", cseq=2)
    both.net.run(100)
    assert peer.codes("BYE") == [481, 481]
    assert both.callee.end is None


def test_more_calls_than_there_is_room_for() -> None:
    net = Net()
    peer, b = Peer(net, "p"), Agent(net, "b", max_calls=2)
    for n in range(3):
        peer.request("INVITE", "b", sdp=OFFER, call_id=f"c{n}")
    net.run(100)
    assert peer.codes("INVITE") == [100, 100, 503]
    assert 5 <= int(peer.final("INVITE").headers["Retry-After"]) <= 15
    for call in b.invitations:
        call.reject(480, net.now_ms)
    peer.request("INVITE", "b", sdp=OFFER, call_id="c4")
    net.run(100)
    assert peer.codes("INVITE")[-1] == 100


def test_more_transactions_than_there_is_room_for() -> None:
    net, told = Net(), Told()
    peer, b = Peer(net, "p"), Agent(net, "b", accepting(net, told), max_transactions=3)
    invite = peer.request("INVITE", "b", sdp=OFFER)
    net.run(100)
    final = peer.final("INVITE")
    peer.within(invite, final, "ACK", cseq=1)
    for cseq in range(2, 6):
        peer.within(invite, final, "OPTIONS", cseq=cseq)
    peer.request("OPTIONS", "b", call_id="c5")
    net.run(100)
    assert peer.codes("OPTIONS") == [200, 200, 503, 503, 503]
    assert len(b.endpoint.transactions.servers) == 3
    net.run(32_000)
    peer.within(invite, final, "BYE", cseq=9)
    net.run(100)
    assert peer.codes("BYE") == [200]


# Redirects and challenges


def test_a_redirect_is_a_refusal_that_says_where() -> None:
    net, told = Net(), Told(OFFER)
    a, b = Agent(net, "a"), Agent(net, "b", lambda call: call.reject(302, net.now_ms, Contact="<sip:c@c>"))
    a.calls("b", told)
    net.run(LONG_MS)
    assert (told.end, told.ends[0].code) == (EndCause.refused, 302)
    assert told.ends[0].contacts == ("sip:c@c",)
    assert a.left == b.left == []


@pytest.mark.parametrize(
    ("code", "contact", "contacts"),
    [
        (
            300,
            "<sip:c@c>;q=0.2, <sip:d@d;line=x;transport=tcp>;q=0.9, sips:e@e",
            ("sips:e@e", "sip:d@d;transport=tcp", "sip:c@c"),
        ),
        (301, "<tel:+4930123456>", ("tel:+4930123456",)),
        (302, "<http://c/>, *, <sip:c@c>;q=much, <mailto:c@c>, <sip:d@d>", ("sip:d@d",)),
        (302, ", ".join(f"<sip:{name}@c>" for name in "abcdefgh"), tuple(f"sip:{name}@c" for name in "abcde")),
        (302, "", ()),
        (305, "<sip:c@c>", ()),
        (380, "<sip:c@c>", ()),
        (486, "<sip:c@c>", ()),
    ],
)
def test_whom_a_redirect_names(code: int, contact: str, contacts: tuple[str, ...]) -> None:
    net, told = Net(), Told(OFFER)
    peer, a = Peer(net, "p"), Agent(net, "a")
    a.calls("p", told)
    net.run(100)
    peer.reply(peer.last("INVITE"), code, Contact=contact)
    net.run(LONG_MS)
    assert told.ends[0].contacts == contacts


def guarded(net: Net, host: str, told: Told) -> tuple[Agent, Asker]:
    """An agent that wants to know who calls."""
    asker = Asker("house", {"bot": "secret"})
    agent = Agent(net, host, accepting(net, told))

    def screen(request: Request, hop: Hop, now_ms: int) -> Refusal | None:
        if isinstance(asker.check(request, now_ms), Known):
            return None
        return Refusal(401, asker.challenges(now_ms))

    agent.screen = screen  # type: ignore[method-assign]  # this one asks
    return agent, asker


def test_credentials_that_are_right() -> None:
    net, caller = Net(), Told(OFFER)
    a = Agent(net, "a")
    b, _ = guarded(net, "b", Told())
    call = a.calls("b", caller, answerer=Answerer(Credentials("bot", "secret")))
    net.run()
    assert caller.stands == 1
    first, second = [one for one in net.requests if one.method == "INVITE"]
    assert (first.call_id, sip.from_tag(first)) == (second.call_id, sip.from_tag(second))
    assert sip.sequence(second) == sip.sequence(first) + 1
    ack = [one for one in net.requests if one.method == "ACK"][-1]
    assert ack.headers["Authorization"] == second.headers["Authorization"]
    call.hang_up(net.now_ms)
    net.run(LONG_MS)
    assert a.left == b.left == []


def test_credentials_that_are_wrong_or_none() -> None:
    for answerer in (Answerer(Credentials("bot", "guess")), Answerer(Credentials("eve", "secret")), None):
        net, told = Net(), Told(OFFER)
        a = Agent(net, "a")
        b, _ = guarded(net, "b", Told())
        a.calls("b", told, answerer=answerer)
        net.run(LONG_MS)
        assert (told.end, told.ends[0].code) == (EndCause.refused, 401)
        assert net.count("INVITE") == (2 if answerer else 1)
        assert a.left == b.left == []
        assert len(b.invitations) == 0


def challenge(peer: Peer, request: Request, code: int, nonce: str, extra: str = "") -> None:
    name = "Proxy_Authenticate" if code == 407 else "WWW_Authenticate"
    headers = {name: f'Digest realm="r", nonce="{nonce}", algorithm=MD5, qop="auth"{extra}'}
    peer.reply(request, code, **headers)


def test_a_challenge_that_is_repeated_gets_the_ack_of_its_own_invite() -> None:
    net, told = Net(), Told(OFFER)
    peer, a = Peer(net, "p"), Agent(net, "a")
    a.calls("p", told, answerer=Answerer(Credentials("bot", "secret")))
    net.run(100)
    first = peer.last("INVITE")
    challenge(peer, first, 407, "n1")
    challenge(peer, first, 407, "n1")
    net.run(100)
    acks = [one for one in peer.got if isinstance(one, Request) and one.method == "ACK"]
    assert [sip.sequence(ack) for ack in acks] == [1, 1]
    assert {sip.top_via(ack).parameters["branch"] for ack in acks} == {sip.top_via(first).parameters["branch"]}
    assert sip.sequence(peer.last("INVITE")) == 2


@pytest.mark.parametrize("code", [401, 407])
def test_whoever_asks_on_and_on_gets_no_answer_in_the_end(code: int) -> None:
    net, told = Net(), Told(OFFER)
    nonces = iter(range(1000))

    def reacts(message: Message) -> None:
        if isinstance(message, Request) and message.method != "ACK":
            challenge(peer, message, code, f"n{next(nonces)}", ", stale=true")

    peer, a = Peer(net, "p", reacts), Agent(net, "a")
    a.calls("p", told, answerer=Answerer(Credentials("bot", "secret")))
    net.run(LONG_MS)
    assert (told.end, told.ends[0].code) == (EndCause.refused, code)
    assert net.count("INVITE") <= 5
    assert a.left == []


def test_a_bye_that_is_challenged_for_ever_ends_too() -> None:
    net, told = Net(), Told(OFFER)
    nonces = iter(range(1000))

    def reacts(message: Message) -> None:
        if isinstance(message, Request) and message.method == "INVITE":
            peer.reply(message, 200, sdp=ANSWER)
        elif isinstance(message, Request) and message.method == "BYE":
            challenge(peer, message, 401, f"n{next(nonces)}", ", stale=true")

    peer, a = Peer(net, "p", reacts), Agent(net, "a")
    call = a.calls("p", told, answerer=Answerer(Credentials("bot", "secret")))
    net.run(100)
    call.hang_up(net.now_ms)
    net.run(LONG_MS)
    byes = [sip.sequence(one) for one in net.requests if one.method == "BYE"]
    assert byes == sorted(set(byes))
    assert 2 <= len(byes) <= 5
    assert a.left == []
