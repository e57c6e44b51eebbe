"""Transfers (RFC 3515, RFC 3891, RFC 4488): asked of us, and asked of the peer."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sipmessage import Request, Response

from media.sip import message as sip
from media.sip.bodies import fragment
from media.sip.call import EndCause
from media.sip.endpoint import Refusal
from media.sip.message import MessageError
from media.sip.outbound import redirects
from media.sip.refer import TRANSFER_MS, Replaces, read
from tests.sip.wires import ANSWER, LONG_MS, OFFER, Agent, Net, Peer, Told, accepting, pair


def standing(*, refers: bool | None = True) -> tuple[Net, Peer, Agent, Told, Request, Response]:
    """A call of a peer's."""
    net, told = Net(), Told(refers=refers)
    peer, b = Peer(net, "p"), Agent(net, "b", accepting(net, told))
    invite = peer.request("INVITE", "b", sdp=OFFER)
    net.run(100)
    final = peer.final("INVITE")
    peer.within(invite, final, "ACK", cseq=1)
    net.run(100)
    return net, peer, b, told, invite, final


def fragments(peer: Peer) -> list[int | None]:
    return [fragment(one) for one in peer.got if isinstance(one, Request) and one.method == "NOTIFY"]


# Between two of us


@pytest.mark.parametrize("turned", [False, True])
def test_a_transfer_that_works(turned: bool) -> None:
    both = pair()
    net = both.net
    mine, other = (both.callee, both.caller) if turned else (both.caller, both.callee)
    asking, asked = (both.called, both.calling) if turned else (both.calling, both.called)
    asking.transfers.ask("sip:desk@c", net.now_ms, by="sip:boss@a")
    net.run(100)
    assert str(other.referrals[0].target) == "sip:desk@c"
    assert other.referrals[0].by == "<sip:boss@a>"
    assert other.referrals[0].replaces is None
    asked.transfers.progress(180, net.now_ms)
    net.run(100)
    asked.transfers.progress(200, net.now_ms)
    net.run(100)
    asked.transfers.progress(200, net.now_ms)  # over already
    net.run(100)
    assert mine.transfers == [100, 180, 200]
    assert net.count("NOTIFY") == 3
    assert net.count("200 NOTIFY") == 3
    asking.hang_up(net.now_ms)
    both.over()


@pytest.mark.parametrize("code", [486, 603, 503])
def test_a_transfer_that_fails_leaves_the_call(code: int) -> None:
    both = pair()
    both.calling.transfers.ask("sip:desk@c", both.net.now_ms)
    both.net.run(100)
    both.called.transfers.progress(code, both.net.now_ms)
    both.net.run(100)
    assert both.caller.transfers == [100, code]
    assert both.caller.ends == []
    both.calling.transfers.ask("sip:desk@d", both.net.now_ms)  # another try
    both.net.run(100)
    assert len(both.callee.referrals) == 2
    both.calling.hang_up(both.net.now_ms)
    both.over()


def test_a_transfer_that_is_refused() -> None:
    both = pair()
    both.callee.refers = False
    both.calling.transfers.ask("sip:desk@c", both.net.now_ms)
    both.net.run(100)
    assert both.caller.transfers == [603]
    assert both.net.count("NOTIFY") == 0
    assert both.caller.ends == []


def test_a_transfer_of_which_nothing_more_is_heard() -> None:
    both = pair()
    both.calling.transfers.ask("sip:desk@c", both.net.now_ms)
    both.net.run(TRANSFER_MS - 1000)
    assert both.caller.transfers == [100]
    both.net.run(2000)
    assert both.caller.transfers == [100, 408]
    both.called.transfers.progress(200, both.net.now_ms)  # too late: 481, and the call goes on (RFC 5057, 5.1)
    both.net.run(1000)
    assert both.net.count("481 NOTIFY") == 1
    assert both.caller.transfers == [100, 408]
    assert both.caller.ends == both.callee.ends == []
    both.calling.hang_up(both.net.now_ms)
    both.over()


def test_the_call_ends_while_it_is_transferred() -> None:
    both = pair()
    both.calling.transfers.ask("sip:desk@c", both.net.now_ms)
    both.net.run(100)
    both.called.hang_up(both.net.now_ms)
    both.called.transfers.progress(200, both.net.now_ms)
    both.over()
    assert both.caller.transfers == [100]


@pytest.mark.parametrize("seed", range(10))
def test_a_transfer_in_a_bad_network_is_told_once(seed: int) -> None:
    both = pair(Net(seed=seed))
    both.net.loss, both.net.twice, both.net.jitter_ms = 0.3, 0.2, 300
    both.calling.transfers.ask("sip:desk@c", both.net.now_ms)
    both.net.run(20_000)
    assert len(both.callee.referrals) == 1
    both.called.transfers.progress(200, both.net.now_ms)
    both.net.run(60_000)
    assert [code for code in both.caller.transfers if code >= 200] == [200]
    both.net.loss = 0
    both.calling.hang_up(both.net.now_ms)
    both.over()


def test_whoever_is_told_that_it_worked_may_hang_up_at_once() -> None:
    class Leaving(Told):
        def transferred(self, code: int, now_ms: int) -> None:
            super().transferred(code, now_ms)
            if code >= 200:
                call.hang_up(now_ms)

    net, mine, other = Net(), Leaving(OFFER), Told()
    a, b = Agent(net, "a"), Agent(net, "b", accepting(net, other))
    call = a.calls("b", mine)
    net.run(1000)
    call.transfers.ask("sip:desk@c", net.now_ms)
    net.run(100)
    b.invitations[0].transfers.progress(200, net.now_ms)
    net.run(LONG_MS)
    assert (mine.transfers, mine.end, other.end) == ([100, 200], EndCause.ours, EndCause.hangup)
    assert a.left == b.left == []


# Asked of us, by hand


def test_a_refer_and_its_notifies() -> None:
    net, peer, b, _, invite, final = standing()
    peer.within(invite, final, "REFER", cseq=2, Refer_To="<sip:c@c>")
    net.run(100)
    assert peer.codes("REFER") == [202]
    notify = peer.last("NOTIFY")
    assert notify.headers["Event"] == "refer;id=2"
    assert notify.headers["Subscription-State"] == "active;expires=60"
    assert notify.headers["Content-Type"].startswith("message/sipfrag")
    assert notify.body == b"SIP/2.0 100 Trying\r\n"
    peer.reply(notify, 200, tag="")
    b.invitations[0].transfers.progress(200, net.now_ms)
    net.run(100)
    assert peer.last("NOTIFY").headers["Subscription-State"].startswith("terminated")
    assert fragments(peer) == [100, 200]


def test_a_refer_that_wants_no_notifies() -> None:
    """RFC 4488."""
    net, peer, b, told, invite, final = standing()
    peer.within(invite, final, "REFER", cseq=2, Refer_To="<sip:c@c>", Refer_Sub="false", Require="norefersub")
    net.run(100)
    assert peer.codes("REFER") == [202]
    assert peer.final("REFER").headers["Refer-Sub"] == "false"
    b.invitations[0].transfers.progress(200, net.now_ms)
    net.run(100)
    assert net.count("NOTIFY") == 0
    assert len(told.referrals) == 1


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("", 400),
        ("<sip:c@c>, <sip:d@d>", 400),
        ("<http://c/>", 416),
        ("<mailto:c@c>", 416),
        ("<sip:c@c;method=BYE>", 400),
        ("<sip:c@c;method=SUBSCRIBE?Event=dialog>", 400),
        ("<sip:c@c;method=invite>", 202),
        ("<sips:c@c>", 202),
        ("<>", 400),
        ("nonsense", 400),
        ("<sip:c@c:99999>", 400),
        ("<sip:>", 400),
        ("<sip:c@c?Replaces=nonsense>", 400),
        ("sip:c@c", 202),
        ("<tel:+4912345>", 202),
        ("<sip:c@c?Replaces=x%40y%3Bto-tag%3D1%3Bfrom-tag%3D2&Other=1>", 202),
    ],
)
def test_where_to(target: str, code: int) -> None:
    net, peer, _, told, invite, final = standing()
    peer.within(invite, final, "REFER", cseq=2, Refer_To=target)
    net.run(100)
    assert peer.codes("REFER") == [code]
    assert len(told.referrals) == int(code == 202)
    assert told.ends == []


@pytest.mark.parametrize("first", [100, 180, 200])
def test_it_may_take_a_while_until_it_is_known_whether_the_peer_may(first: int) -> None:
    net, peer, b, told, invite, final = standing(refers=None)
    peer.within(invite, final, "REFER", cseq=2, Refer_To="<sip:c@c>")
    peer.within(invite, final, "REFER", cseq=3, Refer_To="<sip:d@d>")
    net.run(1000)
    assert peer.codes("REFER") == [491], "and nothing for the first one so far"
    assert net.count("NOTIFY") == 0
    b.invitations[0].transfers.progress(first, net.now_ms)
    net.run(100)
    assert peer.codes("REFER") == [491, 202]
    assert fragments(peer) == [first]
    assert peer.last("NOTIFY").headers["Event"] == "refer;id=2"
    assert len(told.referrals) == 1


@pytest.mark.parametrize("code", [603, 503, 486])
def test_what_is_known_to_fail_at_once_is_refused_and_may_be_asked_again(code: int) -> None:
    net, peer, b, told, invite, final = standing(refers=None)
    peer.within(invite, final, "REFER", cseq=2, Refer_To="<sip:c@c>")
    net.run(100)
    b.invitations[0].transfers.progress(code, net.now_ms)
    net.run(100)
    assert peer.codes("REFER") == [code]
    assert net.count("NOTIFY") == 0
    peer.within(invite, final, "REFER", cseq=3, Refer_To="<sip:c@c>")
    net.run(100)
    assert len(told.referrals) == 2
    assert told.ends == []


def test_the_call_ends_before_it_is_known() -> None:
    net, peer, b, told, invite, final = standing(refers=None)
    peer.within(invite, final, "REFER", cseq=2, Refer_To="<sip:c@c>")
    net.run(100)
    peer.within(invite, final, "BYE", cseq=3)
    net.run(100)
    assert peer.codes("REFER") == [481]
    call = b.invitations[0]
    call.transfers.progress(200, net.now_ms)
    net.run(LONG_MS)
    assert net.count("NOTIFY") == 0
    assert told.end is EndCause.hangup
    assert b.left == []


@pytest.mark.parametrize(
    ("refusal", "code"), [(Refusal(401, ["Digest realm=x", "Digest realm=y"]), 401), (Refusal(0), 403)]
)
def test_who_could_not_call_us_may_not_send_us_elsewhere(refusal: Refusal, code: int) -> None:
    net, peer, b, told, invite, final = standing()
    b.refusal = refusal
    peer.within(invite, final, "REFER", cseq=2, Refer_To="<sip:c@c>")
    net.run(100)
    assert peer.codes("REFER") == [code]
    assert len(peer.final("REFER").headers.getlist("WWW-Authenticate")) == len(refusal.challenges)
    assert told.referrals == []
    assert told.ends == []
    b.refusal = None
    peer.within(invite, final, "REFER", cseq=3, Refer_To="<sip:c@c>")
    net.run(100)
    assert peer.codes("REFER") == [code, 202]


def test_the_bye_comes_after_the_news_that_it_worked() -> None:
    net, peer, b, told, invite, final = standing()
    peer.within(invite, final, "REFER", cseq=2, Refer_To="<sip:c@c>")
    net.run(100)
    peer.reply(peer.last("NOTIFY"), 200, tag="")
    call = b.invitations[0]
    call.transfers.progress(200, net.now_ms)
    call.hang_up(net.now_ms)
    net.run(3000)
    assert net.count("BYE") == 0
    assert told.end is EndCause.ours
    peer.reply(peer.last("NOTIFY"), 200, tag="")
    net.run(100)
    peer.reply(peer.last("BYE"), 200, tag="")
    net.run(LONG_MS)
    assert b.left == []


@pytest.mark.parametrize("leaves", [False, True])
def test_a_peer_that_answers_no_notify_is_hung_up_on_in_the_end(leaves: bool) -> None:
    net, peer, b, _, invite, final = standing()
    peer.within(invite, final, "REFER", cseq=2, Refer_To="<sip:c@c>")
    net.run(100)
    call = b.invitations[0]
    call.transfers.progress(200, net.now_ms)
    call.hang_up(net.now_ms)
    if leaves:  # its own BYE comes first
        peer.within(invite, final, "BYE", cseq=3)
    net.run(LONG_MS)
    assert (net.count("BYE") > 1) is not leaves
    assert b.left == []


def test_addresses_go_on_without_what_only_their_own_side_understands() -> None:
    for text, to in (
        ("<sip:c@c;line=x7;transport=TCP;ob?Replaces=x%3Bto-tag%3D1%3Bfrom-tag%3D2>", "sip:c@c;transport=TCP"),
        ("<sips:c@c:5071;user=phone;lr>", "sips:c@c:5071;user=phone"),
        ("<tel:+4912345;phone-context=x>", "tel:+4912345;phone-context=x"),
        ("<sip:c@[::1]:5070;x>", "sip:c@[::1]:5070"),
    ):
        assert read(text).to == to


def test_one_transfer_at_a_time() -> None:
    net, peer, b, told, invite, final = standing()
    for cseq in (2, 3):
        peer.within(invite, final, "REFER", cseq=cseq, Refer_To="<sip:c@c>")
    net.run(100)
    assert peer.codes("REFER") == [202, 491]
    b.invitations[0].transfers.progress(486, net.now_ms)
    peer.within(invite, final, "REFER", cseq=4, Refer_To="<sip:c@c>")
    net.run(100)
    assert peer.codes("REFER") == [202, 491, 202]
    assert len(told.referrals) == 2


def test_a_peer_that_does_not_want_our_notify_keeps_its_call() -> None:
    net, peer, b, told, invite, final = standing()
    peer.within(invite, final, "REFER", cseq=2, Refer_To="<sip:c@c>")
    net.run(100)
    peer.reply(peer.last("NOTIFY"), 481, tag="")
    net.run(100)
    assert told.ends == []
    assert b.invitations[0].live


def test_a_notify_without_a_transfer() -> None:
    net, peer, _, told, invite, final = standing()
    peer.within(invite, final, "NOTIFY", cseq=2, Event="refer", Subscription_State="active")
    peer.within(invite, final, "NOTIFY", cseq=3, Event="dialog")
    peer.within(invite, final, "NOTIFY", cseq=4)
    net.run(100)
    assert peer.codes("NOTIFY") == [481, 489, 489]
    assert peer.final("NOTIFY").headers["Allow-Events"] == "refer"
    assert told.transfers == []


# Asked of the peer, by hand


def asking() -> tuple[Net, Peer, Told, Request, Response]:
    net, peer, b, told, invite, final = standing()
    b.invitations[0].transfers.ask("sip:c@c", net.now_ms)
    b.invitations[0].transfers.ask("sip:d@d", net.now_ms)  # one at a time
    net.run(100)
    assert net.count("REFER") == 1
    return net, peer, told, invite, final


@pytest.mark.parametrize(
    ("state", "body", "told"),
    [
        ("active;expires=60", "SIP/2.0 100 Trying", [100]),
        ("active", "SIP/2.0 200 OK", [200]),
        ("terminated;reason=noresource", "SIP/2.0 200 OK", [200]),
        ("terminated;reason=noresource", "SIP/2.0 503 Busy", [503]),
        ("terminated", "SIP/2.0 180 Ringing", [487]),
        ("Terminated", "", [487]),
        ("active", "", []),
        ("", "nonsense", []),
    ],
)
def test_what_a_notify_says(state: str, body: str, told: list[int]) -> None:
    net, peer, listener, invite, final = asking()
    peer.reply(peer.last("REFER"), 202, tag="")
    kind = "message/sipfrag;version=2.0"
    peer.within(
        invite, final, "NOTIFY", cseq=2, sdp=body, Event="refer;id=1", Subscription_State=state, Content_Type=kind
    )
    net.run(100)
    assert peer.codes("NOTIFY") == [200]
    assert listener.transfers == told
    assert listener.ends == []


def test_what_comes_late_of_an_earlier_transfer_is_not_taken_for_this_one() -> None:
    net, peer, told, invite, final = asking()
    peer.reply(peer.last("REFER"), 603, tag="")
    net.run(100)
    (call,) = (call for call in net.agents["b"].endpoint.calls.values())
    call.transfers.ask("sip:d@d", net.now_ms)
    net.run(100)
    said = {"Subscription_State": "terminated", "Content_Type": "message/sipfrag", "sdp": "SIP/2.0 200 OK"}
    peer.within(invite, final, "NOTIFY", cseq=2, Event="refer;id=1", **said)
    net.run(100)
    assert told.transfers == [603]
    peer.within(invite, final, "NOTIFY", cseq=3, Event="refer ; ID = 2", **said)
    net.run(100)
    assert peer.codes("NOTIFY") == [481, 200]
    assert told.transfers == [603, 200]


def test_the_notify_may_come_before_the_202() -> None:
    net, peer, told, invite, final = asking()
    said = {"Event": "refer", "Subscription_State": "terminated", "Content_Type": "message/sipfrag"}
    peer.within(invite, final, "NOTIFY", cseq=2, sdp="SIP/2.0 200 OK", **said)
    net.run(100)
    peer.reply(peer.last("REFER"), 202, tag="")
    net.run(TRANSFER_MS * 2)
    assert told.transfers == [200]
    assert told.ends == []


@pytest.mark.parametrize("code", [405, 501, 403])
def test_a_peer_that_cannot_transfer(code: int) -> None:
    net, peer, told, _, _ = asking()
    peer.reply(peer.last("REFER"), code, tag="")
    net.run(100)
    assert told.transfers == [code]
    assert told.ends == []


def test_a_refer_that_nobody_answers() -> None:
    """RFC 3261, 12.2.1.2: nobody is there, and the call ends."""
    net, _, told, _, _ = asking()
    net.run(LONG_MS)
    assert told.end is EndCause.timeout
    assert [code for code in told.transfers if code >= 200] in ([], [408])


# A call that takes another's place


def test_an_attended_transfer() -> None:
    """a talks to b and to c, and joins them: c gets a call of b's that replaces a's (RFC 3891)."""
    net = Net()
    first, second = Told(OFFER), Told(OFFER)
    told_b, told_c, new_c, new_b = Told(), Told(), Told(), Told(OFFER)
    a = Agent(net, "a")
    b, c = Agent(net, "b", accepting(net, told_b)), Agent(net, "c", accepting(net, told_c))
    to_b, to_c = a.calls("b", first), a.calls("c", second)
    net.run(1000)
    dialog = to_c.stands
    replaces = Replaces(dialog.call_id, dialog.remote_tag, dialog.local_tag)
    to_b.transfers.ask("sip:desk@c", net.now_ms, replaces=replaces)
    net.run(100)
    asked = told_b.referrals[0]
    assert asked.replaces == replaces
    c.answers = lambda call: call.ring(net.now_ms)
    b.calls("c", new_b, headers=[("Replaces", str(asked.replaces)), ("Require", "replaces")])
    net.run(100)
    newcomer = c.invitations[1]
    old = c.endpoint.replaced(newcomer)
    assert old is c.invitations[0]
    newcomer.accept(ANSWER, new_c, net.now_ms)
    old.hang_up(net.now_ms)
    b.invitations[0].transfers.progress(200, net.now_ms)
    net.run(1000)
    assert first.transfers[-1] == 200
    assert second.end is EndCause.hangup
    to_b.hang_up(net.now_ms)
    net.run(1000)
    assert new_b.stands == new_c.stands == 1
    assert new_b.ends == new_c.ends == []
    assert told_b.end is EndCause.hangup
    assert c.endpoint.replaced(newcomer) is None  # it is gone now


@pytest.mark.parametrize("change", ["call_id", "to_tag", "from_tag", "early-only", "none", "swapped"])
def test_a_place_that_there_is_none_of(change: str) -> None:
    both = pair()
    dialog = both.called.stands
    call_id, to_tag, from_tag = dialog.call_id, dialog.local_tag, dialog.remote_tag
    right = {"call_id": call_id, "to_tag": to_tag, "from_tag": from_tag}
    if change in right:
        right[change] = "other"
    if change == "swapped":
        right |= {"to_tag": from_tag, "from_tag": to_tag}
    text = f"{right['call_id']};from-tag={right['from_tag']};to-tag={right['to_tag']}"
    headers = {} if change == "none" else {"Replaces": text + (";early-only" if change == "early-only" else "")}
    both.b.answers = lambda call: None
    Peer(both.net, "p").request("INVITE", "b", cseq=1, sdp=OFFER, call_id="two", **headers)
    both.net.run(100)
    assert both.b.endpoint.replaced(both.b.invitations[1]) is None


def test_references_are_read_as_they_are_written() -> None:
    replaces = Replaces("a@b;c=d", "1", "2")
    assert Replaces.parse("x@y ; from-tag=2;to-tag=1;early-only") == Replaces("x@y", "1", "2", early_only=True)
    assert str(Replaces("x@y", "1", "2", early_only=True)).endswith(";early-only")
    assert str(Replaces("x@y", "1", "2")) == "x@y;to-tag=1;from-tag=2"
    assert replaces.call_id in str(replaces)
    for text in ("", ";to-tag=1;from-tag=2", "x", "x;to-tag=1", "x;from-tag=1"):
        assert Replaces.parse(text) is None
    for text in ("", "<>", "<mailto:a@b>", "<sip:>"):
        with pytest.raises(MessageError):
            read(text)
    assert read("Somebody <sip:c@c;transport=tcp>;x=y", "me").by == "me"
    assert sip.hop_of(read("<sip:c@c;transport=tcp>").target).transport == "tcp"


PIECES = [
    "<",
    ">",
    "sip:",
    "sips:",
    "tel:",
    "http:",
    "c",
    "@",
    "c.example",
    "[::1]",
    ":5060",
    ";",
    "transport",
    "=",
    "tcp",
]
PIECES += [
    "method",
    "?",
    "Replaces",
    "x%3Bto-tag%3D1%3Bfrom-tag%3D2",
    "%",
    "&",
    '"',
    ",",
    " ",
    "\n",
    "\0",
    "é",
    "+49",
    ";q=nan",
]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_no_reference_and_no_redirection_does_harm(text: str) -> None:
    with suppress(MessageError):
        read(text)
        assert len(read(text).to) <= len(text)
    response = Response(302, "Moved")
    response.headers.set("Contact", text)
    assert all(one.startswith(("sip:", "sips:", "tel:")) for one in redirects(response))
