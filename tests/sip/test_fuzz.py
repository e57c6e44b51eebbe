"""Hostile messages, at any stage of a call: they are refused as messages, or they do no harm."""

import contextlib
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sipmessage import Request, Response

from media.sip import bodies
from media.sip import message as sip
from media.sip.auth import Answerer, Asker, Credentials
from media.sip.call import Call
from media.sip.dialog import Dialog
from media.sip.inbound import InboundCall
from media.sip.message import Hop, Message, MessageError
from media.sip.transaction import RINGING_MS
from tests.sip.wires import ANSWER, Agent, Net, Told

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.sip"))
ANN, BOB, EVE = "192.0.2.1", "192.0.2.2", "192.0.2.66"
LONG_MS = 2 * RINGING_MS
GROUP = 8  # calls to which the corpus is dealt out


def read(data: bytes) -> Message | None:
    try:
        return sip.parse(data)
    except MessageError as error:
        if error.request is not None:
            sip.write(sip.response(error.request, 400, str(error), tag="t"))
        return None


# Every reading of a message


def look_at(message: Message) -> None:
    """All that the layers read. Only `MessageError` and `Unsupported` may come of it."""
    for name in ("Contact", "Record-Route", "Refer-To", "Route"):
        for value in sip.values(message, name):
            try:
                sip.hop_of(sip.address_of(value).uri)
            except MessageError:
                continue
    with contextlib.suppress(bodies.Unsupported):
        bodies.description(message)
    bodies.digit(message)
    bodies.fragment(message)
    sip.sequence(message)
    sip.number(message, "Expires")
    answerer = Answerer(Credentials("ann", "secret"))
    if isinstance(message, Response):
        answerer.answers(Request("REGISTER", sip.uri_of("sip:example.com")), message)
    else:
        Asker("voicegate", {"ann": "secret"}).check(message, 0)


def round_trip(message: Message) -> None:
    """What is read can be printed and read again; a request can be answered."""
    again = sip.parse(sip.write(message))
    assert type(again) is type(message)
    assert again.body == message.body
    assert again.headers["Call-ID"] == message.headers["Call-ID"]
    assert sip.top_via(again) == sip.top_via(message)
    if isinstance(message, Request):
        sip.received_from(message, Hop("udp", EVE, 4000))
        answer = sip.parse(sip.write(sip.response(message, 486, tag="t1")))
        assert isinstance(answer, Response)
        assert answer.headers["CSeq"] == message.headers["CSeq"]
        assert sip.from_tag(answer) == sip.from_tag(message)
        assert sip.top_via(answer) == sip.top_via(message)
        assert sip.reply_hop(message, Hop("udp", EVE, 4000)).host == EVE


# A call, and what may come at each of its stages


def wire(data: bytes) -> list[bytes]:
    return [sip.write(message)] if (message := read(data)) is not None else []


class Scene:
    """A call between two, up to some moment; everything that was said is there to be said again, changed."""

    def __init__(self, transport: str = "udp") -> None:
        self.net = Net(transport)
        self.rings = self.accepts = True
        self.ann = Agent(self.net, ANN)
        self.bob = Agent(self.net, BOB, self._invited)
        self.told = Told()
        self.call = self.ann.endpoint.invite(
            sip.uri_of(f"sip:bob@{BOB}"),
            f"<sip:ann@{ANN}>",
            self.ann.hop(BOB),
            self.told,
            self.net.now_ms,
            answer_ms=60_000,
            answerer=Answerer(Credentials("ann", "secret")),
        )

    def _invited(self, call: InboundCall) -> None:
        if self.rings:
            call.ring(self.net.now_ms)
        if self.accepts:
            call.accept(ANSWER, Told(), self.net.now_ms)

    @property
    def calls(self) -> list[Call]:
        return [call for agent in (self.ann, self.bob) for call in agent.endpoint.calls.values()]

    def inject(self, agent: Agent, message: Message, hop: Hop) -> None:
        agent.endpoint.receive(message, hop, self.net.now_ms)

    def end(self) -> None:
        """Both hang up, time goes by, and nothing is left."""
        for call in self.calls:
            call.hang_up(self.net.now_ms)
        self.net.run(LONG_MS)
        for agent in (self.ann, self.bob):
            endpoint = agent.endpoint
            for left in list(endpoint.calls.values()):
                left.hang_up(self.net.now_ms)
        self.net.run(LONG_MS)
        for agent in (self.ann, self.bob):
            endpoint = agent.endpoint
            assert not endpoint.calls
            assert not endpoint.transactions.clients
            assert not endpoint.transactions.servers
            assert endpoint.deadline_ms is None
            assert not endpoint._invites


def calling() -> Scene:
    scene = Scene()
    scene.net.run(5)
    return scene


def ringing() -> Scene:
    scene = Scene()
    scene.accepts = False
    scene.net.run(100)
    return scene


def unacknowledged() -> Scene:
    scene = Scene()
    scene.net.drop = lambda sent: sent.name == "ACK"
    scene.net.run(100)
    scene.net.drop = lambda sent: False
    return scene


def confirmed() -> Scene:
    scene = Scene()
    scene.net.run(200)
    return scene


def changing() -> Scene:
    scene = confirmed()
    scene.call.modification.offer(scene.net.now_ms)
    scene.net.run(15)
    return scene


def transferring() -> Scene:
    scene = confirmed()
    scene.call.transfers.ask("sip:carol@example.com", scene.net.now_ms)
    scene.net.run(100)
    return scene


def cancelling() -> Scene:
    scene = ringing()
    scene.call.hang_up(scene.net.now_ms)
    return scene


def closing() -> Scene:
    scene = confirmed()
    scene.call.hang_up(scene.net.now_ms)
    return scene


def over() -> Scene:
    scene = closing()
    scene.net.run(100)
    return scene


STAGES: list[Callable[[], Scene]] = [
    calling,
    ringing,
    unacknowledged,
    confirmed,
    changing,
    transferring,
    cancelling,
    closing,
    over,
]


def mirrored(
    scene: Scene, method: str, *, to_bob: bool, cseq: int, body: bytes = b"", kind: str = ""
) -> Request | None:
    """A request within the dialog, as the other side would send it."""
    call = next((call for call in scene.calls if isinstance(call, InboundCall) == to_bob), None)
    if call is None or call.dialog is None:
        return None
    return within(call.dialog, method, cseq=cseq, body=body, kind=kind)


def within(dialog: Dialog, method: str, *, cseq: int, body: bytes = b"", kind: str = "") -> Request:
    made = Request(method, sip.uri_of("sip:you@192.0.2.9"))
    made.headers.set("Via", f"SIP/2.0/UDP {EVE};branch={sip.new_branch()}")
    made.headers.set("From", dialog.remote)
    made.headers.set("To", dialog.local)
    made.headers.set("Call-ID", dialog.call_id)
    made.headers.set("CSeq", f"{cseq} {method}")
    made.headers.set("Contact", f"<sip:eve@{EVE}>")
    made.headers.set("Content-Type", kind)
    made.body = body
    return made


METHODS = ["INVITE", "ACK", "BYE", "CANCEL", "UPDATE", "PRACK", "INFO", "REFER", "NOTIFY", "OPTIONS", "MESSAGE", "X"]
BODIES = [
    (b"", ""),
    (ANSWER.encode(), "application/sdp"),
    (b"\xff" * 20, "application/sdp"),
    (b"Signal=5\r\nDuration=100\r\n", "application/dtmf-relay"),
    (b"SIP/2.0 200 OK", "message/sipfrag"),
    (b"--a\r\n\r\n--a--", "multipart/mixed;boundary=a"),
    (b"x", "text/plain"),
]
HEADERS = [
    ("Session-Expires", "90;refresher=uas"),
    ("Session-Expires", "1"),
    ("Min-SE", "9999999999"),
    ("Supported", "timer, 100rel"),
    ("Require", "timer"),
    ("Require", "unheard-of"),
    ("Refer-To", "<sip:carol@example.com?Replaces=a%3Bto-tag%3Db%3Bfrom-tag%3Dc>"),
    ("Refer-To", "<>"),
    ("Event", "refer"),
    ("Subscription-State", "terminated;reason=noresource"),
    ("RAck", "1 1 INVITE"),
    ("RSeq", "4294967296"),
    ("Replaces", "a;to-tag=b;from-tag=c"),
    ("Record-Route", "<sip:p1;lr>, <tel:1>, <sip:p2>"),
    ("Contact", "*"),
    ("Contact", "<tel:+1>"),
    ("Contact", "\u2028"),
    ("Max-Forwards", "0"),
    ("WWW-Authenticate", 'Digest realm="r", nonce="n", qop="auth"'),
    ("Content-Encoding", "gzip"),
    ("Reason", "SIP ;cause=200"),
]


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.__name__)
@pytest.mark.parametrize("method", METHODS)
def test_any_request_within_a_call_at_any_stage(stage: Callable[[], Scene], method: str) -> None:
    for to_bob in (True, False):
        for body, kind in BODIES:
            scene = stage()
            sequence = 50
            for cseq in (sequence, sequence, 2, sequence + 1):
                made = mirrored(scene, method, to_bob=to_bob, cseq=cseq, body=body, kind=kind)
                if made is None:
                    continue
                message = sip.parse(sip.write(made))
                scene.inject(scene.bob if to_bob else scene.ann, message, Hop("udp", EVE, 5060))
            scene.net.run(50)
        scene.end()


def test_an_offer_by_update_before_the_answer() -> None:
    """RFC 3311, 5.2: 500, for the offer of the INVITE waits for its answer."""
    scene = ringing()
    call = next(iter(scene.bob.endpoint.calls.values()))
    assert call.dialog is not None
    update = within(call.dialog, "UPDATE", cseq=50, body=ANSWER.encode(), kind="application/sdp")
    scene.inject(scene.bob, update, Hop("udp", ANN, 5060))
    assert scene.net.names()[-1] == "500 UPDATE"


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(STAGES),
    st.lists(
        st.tuples(
            st.sampled_from(METHODS),
            st.booleans(),
            st.integers(0, 100),
            st.sampled_from(BODIES),
            st.lists(st.sampled_from(HEADERS), max_size=4),
            st.integers(0, 5000),
        ),
        min_size=1,
        max_size=6,
    ),
)
def test_any_requests_within_a_call(
    stage: Callable[[], Scene],
    acts: list[tuple[str, bool, int, tuple[bytes, str], list[tuple[str, str]], int]],
) -> None:
    scene = stage()
    for method, to_bob, cseq, (body, kind), headers, wait_ms in acts:
        made = mirrored(scene, method, to_bob=to_bob, cseq=cseq, body=body, kind=kind)
        if made is None:
            break
        for name, value in headers:
            made.headers.set(name, value)
        scene.inject(scene.bob if to_bob else scene.ann, sip.parse(sip.write(made)), Hop("udp", EVE, 5060))
        scene.net.run(wait_ms)
    scene.end()


# What was really said, changed here and there

RUBBISH = [b"", b" ", b"\r\n", b"\n ", b"\t", b";", b",", b'"', b"<", b">", b":", b"=", b"@", b"%00", b"\xff", b"\0"]
RUBBISH += [b"sip:", b"tag=", b"z9hG4bK", b"rport", b"9" * 12, b"-1", b"SIP/2.0 ", "ü☎".encode(), b"*", b"[::1]", b"lr"]


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Bytes, words or whole lines are lost, doubled, moved, or taken from elsewhere."""
    for _ in range(chance.randint(1, 4)):
        lines = data.split(b"\r\n")
        at = chance.randrange(len(lines))
        place = chance.randrange(len(data) + 1)
        match chance.randrange(9):
            case 0:
                data = data[:place] + chance.choice(RUBBISH) + data[place:]
            case 1:
                data = data[:place] + data[place + chance.randint(1, 10) :]
            case 2:
                data = data[:place] + bytes([chance.randrange(256)]) + data[place + 1 :]
            case 3:
                data = b"\r\n".join([*lines[:at], *lines[at + 1 :]])
            case 4:
                data = b"\r\n".join([*lines[:at], lines[chance.randrange(len(lines))], *lines[at:]])
            case 5:
                chance.shuffle(middle := lines[1:-2])
                data = b"\r\n".join([lines[0], *middle, *lines[-2:]])
            case 6:
                words = re.split(rb"([\s;,:=<>@]+)", lines[at])
                words[chance.randrange(len(words))] = chance.choice(RUBBISH)
                data = b"\r\n".join([*lines[:at], b"".join(words), *lines[at + 1 :]])
            case 7:
                name, value = chance.choice(HEADERS)
                data = b"\r\n".join([*lines[:1], f"{name}: {value}".encode(), *lines[1:]])
            case _:
                lines[at] = lines[at].swapcase()
                data = b"\r\n".join(lines)
    return data


@settings(max_examples=250, deadline=None)
@given(st.integers(0, 1 << 48), st.sampled_from(STAGES), st.sampled_from(["udp", "tcp"]))
def test_changed_messages_at_any_stage(seed: int, stage: Callable[[], Scene], transport: str) -> None:
    chance = random.Random(seed)
    scene = stage()
    for _ in range(20):
        sent = chance.choice(scene.net.log)
        message = read(mutated(sip.write(sent.message), chance))
        if message is None:
            continue
        look_at(message)
        to = scene.net.agents.get(sent.to, scene.bob)
        hop = Hop(transport, chance.choice([ANN, BOB, EVE]), chance.choice([5060, 40_000]), int(transport != "udp"))
        scene.inject(to, message, hop)
        scene.net.run(chance.choice([0, 1, 20, 700]))
    scene.end()


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 1 << 48), st.sampled_from(CORPUS))
def test_what_is_read_can_be_answered_and_printed(seed: int, path: Path) -> None:
    message = read(mutated(path.read_bytes(), random.Random(seed)))
    if message is not None:
        look_at(message)
        round_trip(message)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=600))
def test_any_bytes(data: bytes) -> None:
    read(data)
    with contextlib.suppress(MessageError):
        list(sip.Framer().feed(data))


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0"), max_size=60)


@settings(max_examples=400, deadline=None)
@given(texts, texts, texts, texts, texts, st.binary(max_size=80))
def test_any_values(via: str, user: str, name: str, contact: str, phrase: str, body: bytes) -> None:
    head = [
        f"INVITE sip:{user}@b SIP/2.0",
        f"Via: SIP/2.0/UDP h;{via}",
        f"From: {name} <sip:{user}@a>;tag=1;{via}",
        f"To: {name}<sip:b>;{via}",
        "Call-ID: 1",
        "CSeq: 1 INVITE",
        f"Contact: {contact}",
        f"X: {phrase}",
    ]
    for first in (head[0], f"SIP/2.0 200 {phrase}"):
        message = read("\r\n".join([first, *head[1:], "", ""]).encode() + body)
        if message is not None:
            look_at(message)
            round_trip(message)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_the_corpus_is_read_as_its_name_says(path: Path) -> None:
    """`bad-...` is no message; all others are."""
    message = read(path.read_bytes())
    assert (message is None) == path.stem.startswith("bad-")
    if message is not None:
        look_at(message)
        round_trip(message)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.__name__)
def test_the_corpus_does_no_harm_at_any_stage(stage: Callable[[], Scene]) -> None:
    for first in range(GROUP):
        scene = stage()
        for path in CORPUS[first::GROUP]:
            for agent in (scene.ann, scene.bob):
                for hop in (Hop("udp", EVE, 5060), Hop("tcp", EVE, 40_000, 1)):
                    message = read(path.read_bytes())
                    if message is not None:
                        scene.inject(agent, message, hop)
            scene.net.run(100)
        scene.end()
