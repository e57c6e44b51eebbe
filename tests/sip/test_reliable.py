"""Ringing that is acknowledged (RFC 3262)."""

import pytest
from sipmessage import Request, Response

from media.sip import message as sip
from media.sip.call import EndCause
from tests.sip.wires import ANSWER, LONG_MS, OFFER, Agent, Net, Peer, Told, accepting


def invited(*, required: bool = True) -> tuple[Net, Peer, Agent, Request, Response]:
    net = Net()
    peer, b = Peer(net, "p"), Agent(net, "b", lambda call: call.ring(net.now_ms))
    headers = {"Require" if required else "Supported": "100rel"}
    invite = peer.request("INVITE", "b", cseq=1, sdp=OFFER, call_id="one", **headers)
    net.run(100)
    return net, peer, b, invite, peer.final("INVITE")


def rack(ring: Response) -> str:
    return f"{ring.headers['RSeq']} 1 INVITE"


def test_between_two_of_us() -> None:
    net, caller, callee = Net(), Told(OFFER), Told(ANSWER)
    a, _ = Agent(net, "a"), Agent(net, "b", accepting(net, callee))
    call = a.calls("b", caller)
    net.run(1000)
    names = ["INVITE", "100 INVITE", "180 INVITE", "PRACK", "200 PRACK", "200 INVITE", "ACK"]
    assert net.names() == names
    prack = net.requests[1]
    assert prack.headers["RAck"] == rack(net.responses[1])
    assert caller.stands == callee.stands == 1
    call.hang_up(net.now_ms)
    net.run(100)
    assert caller.end is EndCause.ours
    assert callee.end is EndCause.hangup
    assert sip.sequence(net.requests[-1]) > sip.sequence(prack)


@pytest.mark.parametrize("required", [True, False])
def test_ringing_is_repeated_until_it_is_acknowledged(required: bool) -> None:
    """RFC 3262, 3: after T1, 2*T1, 4*T1; and there is one of them at a time."""
    net, peer, b, invite, ring = invited(required=required)
    assert sip.tokens(ring, "Require") == ["100rel"]
    b.invitations[0].ring(net.now_ms)
    net.run(4000)
    assert peer.codes("INVITE") == [100, 180, 180, 180, 180]
    assert {one.headers.get("RSeq") for one in net.responses if one.code == 180} == {ring.headers["RSeq"]}
    peer.within(invite, ring, "PRACK", cseq=2, RAck=rack(ring))
    net.run(20_000)
    assert peer.codes("PRACK") == [200]
    assert peer.codes("INVITE") == [100, 180, 180, 180, 180]


def test_without_100rel_it_is_not_repeated() -> None:
    net = Net()
    peer, _ = Peer(net, "p"), Agent(net, "b", lambda call: call.ring(net.now_ms))
    peer.request("INVITE", "b", sdp=OFFER)
    net.run(10_000)
    assert peer.codes("INVITE") == [100, 180]
    assert peer.final("INVITE").headers.get("RSeq") is None


def test_a_wrong_rack() -> None:
    net, peer, b, invite, ring = invited()
    number = int(ring.headers["RSeq"])
    wrong = [f"{number + 1} 1 INVITE", f"{number} 2 INVITE", f"{number} 1 OPTIONS", "x", ""]
    for cseq, said in enumerate(wrong, start=2):
        peer.within(invite, ring, "PRACK", cseq=cseq, RAck=said)
        net.run(50)
    assert peer.codes("PRACK") == [481] * len(wrong)
    peer.within(invite, ring, "PRACK", cseq=20, RAck=rack(ring))
    peer.within(invite, ring, "PRACK", cseq=21, RAck=rack(ring))  # one is enough
    net.run(50)
    assert peer.codes("PRACK")[-2:] == [200, 481]
    assert b.invitations[0].stage == "setup"


def test_the_answer_waits_for_the_prack() -> None:
    """RFC 3262, 3: no 2xx while a reliable response with a description could still be lost."""
    net, peer, b, invite, ring = invited()
    told = Told()
    b.invitations[0].accept(ANSWER, told, net.now_ms)
    net.run(3000)
    assert 200 not in peer.codes("INVITE")
    peer.within(invite, ring, "PRACK", cseq=2, RAck=rack(ring))
    net.run(100)
    assert peer.codes("INVITE")[-1] == 200
    peer.within(invite, peer.final("INVITE"), "ACK", cseq=1)
    net.run(100)
    assert told.stands == 1


@pytest.mark.parametrize("how", ["cancel", "bye", "reject", "hang up"])
def test_the_call_ends_while_the_answer_waits(how: str) -> None:
    net, peer, b, invite, ring = invited()
    told, call = Told(), b.invitations[0]
    call.accept(ANSWER, told, net.now_ms)
    if how == "cancel":
        peer.request("CANCEL", "b", Via=invite.headers["Via"])
    elif how == "bye":
        peer.within(invite, ring, "BYE", cseq=2)
    elif how == "reject":
        call.reject(486, net.now_ms)
    else:
        call.hang_up(net.now_ms)
    net.run(100)
    causes = {"cancel": EndCause.cancelled, "bye": EndCause.hangup}
    assert told.end is causes.get(how, EndCause.ours)
    assert told.stands == 0
    net.run(LONG_MS)
    assert peer.codes("INVITE")[-1] == {"reject": 486, "hang up": 480}.get(how, 487)
    assert b.left == []


@pytest.mark.parametrize("accepted", [True, False])
def test_ringing_that_is_never_acknowledged(accepted: bool) -> None:
    """RFC 3262, 3: after 64*T1 a 5xx."""
    net, peer, b, _, _ = invited()
    told = Told()
    if accepted:
        b.invitations[0].accept(ANSWER, told, net.now_ms)
    net.run(31_000)
    assert set(peer.codes("INVITE")) == {100, 180}
    net.run(2000)
    assert 504 in peer.codes("INVITE")
    assert len(told.ends) == int(accepted)
    net.run(LONG_MS)
    assert b.left == []


@pytest.mark.parametrize("name", ["180 INVITE", "PRACK", "200 PRACK", "200 INVITE"])
def test_a_lost_message_on_the_way(name: str) -> None:
    net, caller, callee = Net(), Told(OFFER), Told(ANSWER)
    a, b = Agent(net, "a"), Agent(net, "b", accepting(net, callee))
    net.losing(name, times=3)
    call = a.calls("b", caller)
    net.run(20_000)
    assert caller.stands == callee.stands == 1
    assert caller.codes == [180]
    call.hang_up(net.now_ms)
    net.run(LONG_MS)
    assert a.left == b.left == []


def calling() -> tuple[Net, Peer, Told, Request]:
    net, told = Net(), Told(OFFER)
    peer, a = Peer(net, "p"), Agent(net, "a")
    a.calls("p", told)
    net.run(100)
    return net, peer, told, peer.last("INVITE")


def racks(net: Net) -> list[str]:
    return [one.headers["RAck"] for one in net.requests if one.method == "PRACK"]


def test_numbers_out_of_order_are_not_acknowledged() -> None:
    """RFC 3262, 4: only the next in order is, and what is repeated was acknowledged already."""
    net, peer, told, invite = calling()
    for code, number in ((180, 5), (180, 5), (183, 7), (183, 4), (183, 6), (183, 7)):
        peer.reply(invite, code, Require="100rel", RSeq=str(number))
        net.run(50)
        if net.count("PRACK"):
            peer.reply(peer.last("PRACK"), 200, tag="")
        net.run(50)
    assert racks(net) == ["5 1 INVITE", "6 1 INVITE", "7 1 INVITE"]
    assert told.codes == [180, 183, 183]
    assert [sip.sequence(one) for one in net.requests if one.method == "PRACK"] == [2, 3, 4]


def test_each_fork_has_its_own_numbers() -> None:
    net, peer, told, invite = calling()
    for tag, number in (("one", 9), ("two", 3), ("one", 10), ("two", 4)):
        peer.reply(invite, 180, tag=tag, Require="100rel", RSeq=str(number))
    net.run(50)
    assert racks(net) == ["9 1 INVITE", "3 1 INVITE", "10 1 INVITE", "4 1 INVITE"]
    assert told.codes == [180] * 4


@pytest.mark.parametrize("headers", [{"RSeq": ""}, {"RSeq": "x"}, {"RSeq": "0"}, {"RSeq": "3", "Contact": ""}])
def test_a_reliable_response_that_cannot_be_acknowledged(headers: dict[str, str]) -> None:
    net, peer, told, invite = calling()
    peer.reply(invite, 180, tag="one", sdp="", Require="100rel", **headers)
    net.run(50)
    assert racks(net) == []
    assert told.codes == []
    peer.reply(invite, 200, tag="one", sdp=ANSWER)
    net.run(50)
    assert told.stands == 1
