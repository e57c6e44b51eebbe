"""One INVITE that reaches several (RFC 3261, 13.2.2.4), and what is heard before anybody answers (RFC 3960)."""

import pytest

from media.sip import message as sip
from media.sip.call import EndCause
from media.sip.outbound import OutboundCall
from tests.sip.wires import ANSWER, LONG_MS, OFFER, Agent, Net, Peer, Told

OTHER = ANSWER.replace("4000", "5000")


def ringing(told: Told) -> tuple[Net, Peer, Agent, OutboundCall]:
    net = Net()
    peer, a = Peer(net, "p"), Agent(net, "a")
    call = a.calls("p", told)
    net.run(100)
    return net, peer, a, call


def tags(peer: Peer, method: str) -> list[str]:
    """Whom our requests of this method were for."""
    sent = [one.message for one in peer.net.log if one.source != peer.host and one.name == method]
    return [sip.to_tag(message) for message in sent]


def test_two_answer_and_the_second_is_hung_up() -> None:
    told = Told(OFFER)
    net, peer, a, call = ringing(told)
    invite = peer.last("INVITE")
    peer.reply(invite, 200, tag="one", sdp=ANSWER)
    peer.reply(invite, 200, tag="two", sdp=OTHER)
    net.run(100)
    assert tags(peer, "ACK") == ["one", "two"]
    assert tags(peer, "BYE") == ["two"]
    assert (told.stands, told.answers, told.ends) == (1, [ANSWER], [])
    peer.reply(peer.last("BYE"), 200)
    peer.reply(invite, 200, tag="two", sdp=OTHER)  # its ACK was lost
    peer.reply(invite, 200, tag="one", sdp=ANSWER)
    net.run(100)
    assert tags(peer, "ACK") == ["one", "two", "two", "one"]
    assert tags(peer, "BYE") == ["two"]
    call.hang_up(net.now_ms)
    net.run(10)
    peer.reply(peer.last("BYE"), 200)
    net.run(LONG_MS)
    assert tags(peer, "BYE")[-1] == "one"
    assert a.left == []


def test_a_fork_that_answers_when_the_call_is_over_already() -> None:
    told = Told(OFFER)
    net, peer, a, _ = ringing(told)
    invite = peer.last("INVITE")
    answer = peer.reply(invite, 200, tag="one", sdp=ANSWER)
    net.run(100)
    peer.within(invite, answer, "BYE", cseq=1)
    net.run(100)
    assert told.end is EndCause.hangup
    peer.reply(invite, 200, tag="two", sdp=ANSWER)
    net.run(100)
    assert tags(peer, "BYE") == ["two"]
    net.run(LONG_MS)
    assert a.left == []


def test_many_forks_get_so_many_byes_and_no_more() -> None:
    told = Told(OFFER)
    net, peer, _, _ = ringing(told)
    for n in range(50):
        peer.reply(peer.last("INVITE"), 180, tag=f"t{n}")
        peer.reply(peer.last("INVITE"), 200, tag=f"t{n}", sdp=ANSWER)
    net.run(100)
    assert len(tags(peer, "BYE")) == 10
    assert told.stands == 1


def test_a_broken_answer_and_then_a_good_one_of_a_fork() -> None:
    """The first cannot be acknowledged, for it does not say where it is; nobody is left standing."""
    told = Told(OFFER)
    net, peer, a, _ = ringing(told)
    peer.reply(peer.last("INVITE"), 200, tag="one", sdp=ANSWER, Contact="")
    net.run(100)
    assert told.end is EndCause.refused
    peer.reply(peer.last("INVITE"), 200, tag="two", sdp=ANSWER)
    net.run(100)
    assert tags(peer, "ACK") == ["two"]
    assert tags(peer, "BYE") == ["two"]
    net.run(LONG_MS)
    assert a.left == []


def test_early_media_counts_as_the_answer() -> None:
    told = Told(OFFER)
    net, peer, _, call = ringing(told)
    peer.reply(peer.last("INVITE"), 183, tag="one", sdp=ANSWER)
    net.run(100)
    assert (told.answers, told.codes, call.early_media) == ([ANSWER], [183], True)
    peer.reply(peer.last("INVITE"), 200, tag="one")
    net.run(100)
    assert (told.answers, told.stands) == ([ANSWER], 1)


def test_early_media_that_cannot_be_used_waits_for_a_better_answer() -> None:
    told = Told(OFFER, fits=False)
    net, peer, _, call = ringing(told)
    peer.reply(peer.last("INVITE"), 183, tag="one", sdp=OTHER)
    peer.reply(peer.last("INVITE"), 183, tag="one", sdp="noise", Content_Type="text/plain")
    net.run(100)
    assert not call.early_media
    told.fits = True
    peer.reply(peer.last("INVITE"), 200, tag="one", sdp=ANSWER)
    net.run(100)
    assert (told.answers, told.stands) == ([OTHER, ANSWER], 1)


def test_early_media_of_one_and_the_answer_of_another() -> None:
    told = Told(OFFER)
    net, peer, _, _ = ringing(told)
    peer.reply(peer.last("INVITE"), 183, tag="one", sdp=OTHER)
    peer.reply(peer.last("INVITE"), 183, tag="two", sdp=ANSWER)
    net.run(100)
    assert told.answers == [OTHER]
    peer.reply(peer.last("INVITE"), 200, tag="two", sdp=ANSWER)
    net.run(100)
    assert told.answers == [OTHER, ANSWER]
    assert tags(peer, "ACK") == ["two"]


def test_early_media_of_one_and_another_who_answers_without_any() -> None:
    told = Told(OFFER)
    net, peer, _, _ = ringing(told)
    peer.reply(peer.last("INVITE"), 183, tag="one", sdp=ANSWER)
    peer.reply(peer.last("INVITE"), 200, tag="two")
    net.run(100)
    assert (told.end, told.ends[0].code) == (EndCause.refused, 488)
    assert tags(peer, "BYE") == ["two"]


@pytest.mark.parametrize("described", [True, False])
def test_an_update_of_who_rings(described: bool) -> None:
    """RFC 3311, 5.2: nothing but a refresh before our offer has its answer, a new offer after it."""
    told = Told(OFFER)
    net, peer, _, call = ringing(told)
    invite = peer.last("INVITE")
    ring = peer.reply(invite, 183, tag="one", sdp=ANSWER if described else "")
    net.run(100)
    peer.within(invite, ring, "UPDATE", cseq=1)
    peer.within(invite, ring, "UPDATE", cseq=2, sdp=OTHER)
    peer.within(invite, ring, "UPDATE", cseq=3, sdp="what", Content_Type="text/plain")
    peer.within(invite, ring, "OPTIONS", cseq=4)
    peer.within(invite, ring, "OPTIONS", cseq=4)
    peer.within(invite, ring, "BYE", cseq=5)
    net.run(100)
    assert peer.codes("UPDATE") == [200, 200 if described else 491, 415]
    assert peer.codes("OPTIONS") == [200, 500]
    assert peer.codes("BYE") == [481]  # whoever was called refuses instead (RFC 3261, 15)
    assert told.offers == ([OTHER] if described else [])
    answer = peer.reply(invite, 200, tag="one", sdp=ANSWER)
    net.run(100)
    assert told.stands == 1
    peer.within(invite, answer, "OPTIONS", cseq=5)
    peer.within(invite, answer, "BYE", cseq=6)
    net.run(100)
    assert peer.codes("OPTIONS")[-1] == 500  # its numbers go on
    assert told.end is EndCause.hangup
    assert call.endpoint.calls == {}


def test_a_request_of_somebody_who_does_not_ring() -> None:
    told = Told(OFFER)
    net, peer, _, _ = ringing(told)
    invite = peer.last("INVITE")
    stranger = sip.response(invite, 180, tag="stranger")
    peer.within(invite, stranger, "UPDATE", cseq=1)
    net.run(100)
    assert peer.codes("UPDATE") == [481]
    assert told.ends == []


def test_an_early_update_that_does_not_fit() -> None:
    told = Told(OFFER)
    net, peer, _, _ = ringing(told)
    invite = peer.last("INVITE")
    ring = peer.reply(invite, 183, tag="one", sdp=ANSWER)
    net.run(100)
    told.fits = False
    peer.within(invite, ring, "UPDATE", cseq=1, sdp=OTHER)
    net.run(100)
    assert peer.codes("UPDATE") == [488]
    assert told.ends == []
