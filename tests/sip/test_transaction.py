"""All timers of RFC 3261, 17, and RFC 6026's Accepted, on ways that lose and ways that do not."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sipmessage import Request, Response

from media.sip import message as sip
from media.sip.message import Hop
from media.sip.timers import Timers
from media.sip.transaction import (
    COMPLETED_MS,
    LIFE_MS,
    RINGING_MS,
    T1_MS,
    T2_MS,
    T4_MS,
    ClientTransaction,
    Failure,
    InviteClient,
    InviteServer,
    ServerTransaction,
    State,
    Transactions,
    server_key,
)

UDP = Hop("udp", "192.0.2.2", 5060)
TCP = Hop("tcp", "192.0.2.2", 5060, 1)
HOPS = [UDP, TCP]


class Bench:
    """One side of the wire, and what left it: (time, hop, bytes)."""

    def __init__(self, most: int = 10) -> None:
        self.now_ms = 0
        self.timers = Timers()
        self.all = Transactions(self, self.timers, most=most)
        self.sent: list[tuple[int, Hop, bytes]] = []
        self.responses: list[int] = []
        self.failures: list[Failure] = []

    def send(self, hop: Hop, data: bytes) -> None:
        self.sent.append((self.now_ms, hop, data))

    def run(self, until_ms: int) -> None:
        while (due_ms := self.timers.deadline_ms) is not None and due_ms <= until_ms:
            self.now_ms = due_ms
            self.timers.tick(due_ms)
        self.now_ms = until_ms

    def client(self, method: str = "INVITE", hop: Hop = UDP, branch: str = "z9hG4bKc1") -> ClientTransaction:
        return self.all.request(
            asked(method, branch),
            hop,
            self.now_ms,
            lambda response, _: self.responses.append(response.code),
            lambda failure, _: self.failures.append(failure),
        )

    def answer(self, to: Request, code: int) -> ClientTransaction | None:
        return self.all.response(read_response(sip.write(sip.response(to, code, tag="t1"))), self.now_ms)

    def server(self, method: str = "INVITE", hop: Hop = UDP, branch: str = "z9hG4bKs1") -> ServerTransaction:
        return self.all.serve(asked(method, branch), hop, self.now_ms)

    @property
    def times(self) -> list[int]:
        return [at_ms for at_ms, _, _ in self.sent]

    @property
    def starts(self) -> list[str]:
        return [data.partition(b"\r\n")[0].decode() for _, _, data in self.sent]

    def clean(self) -> bool:
        return not (self.all.clients or self.all.servers or len(self.timers) or self.timers.deadline_ms is not None)


def read_response(data: bytes) -> Response:
    message = sip.parse(data)
    assert isinstance(message, Response)
    return message


def read_request(data: bytes) -> Request:
    message = sip.parse(data)
    assert isinstance(message, Request)
    return message


def asked(method: str, branch: str = "z9hG4bK1", *, via: str = "", sequence: int = 1) -> Request:
    made = sip.request(method, "sip:bob@192.0.2.2")
    made.headers.add("Via", via or f"SIP/2.0/UDP 192.0.2.1:5060;branch={branch};rport")
    made.headers.add("Route", "<sip:r1@192.0.2.2;lr>")
    made.headers.add("Route", "<sip:r2@192.0.2.3;lr>")
    made.headers.set("From", "<sip:ann@192.0.2.1>;tag=f1")
    made.headers.set("To", "<sip:bob@192.0.2.2>")
    made.headers.set("Call-ID", "c1")
    made.headers.set("CSeq", f"{sequence} {method}")
    return made


A = [0, 500, 1500, 3500, 7500, 15_500, 31_500]  # doubled each time (17.1.1.2)
E = [0, 500, 1500, 3500, *range(7500, 32_000, T2_MS)]  # doubled up to T2 (17.1.2.2)
G = E  # the same for final responses to INVITE (17.2.1)


def test_the_values_are_those_of_the_rfc() -> None:
    assert (T1_MS, T2_MS, T4_MS, LIFE_MS) == (500, 4000, 5000, 32_000)
    assert COMPLETED_MS >= 32_000


# Clients: A, B, D, E, F, K


@pytest.mark.parametrize(
    ("method", "hop", "times"),
    [("INVITE", UDP, A), ("INVITE", TCP, [0]), ("OPTIONS", UDP, E), ("OPTIONS", TCP, [0]), ("BYE", UDP, E)],
)
def test_requests_without_an_answer(method: str, hop: Hop, times: list[int]) -> None:
    """A and B, E and F."""
    bench = Bench()
    client = bench.client(method, hop)
    bench.run(LIFE_MS - 1)
    assert bench.times == times
    assert len({data for _, _, data in bench.sent}) == 1
    assert not bench.failures
    bench.run(LIFE_MS)
    assert bench.failures == [Failure.timeout]
    assert client.state is State.over
    assert bench.clean()


@pytest.mark.parametrize("hop", HOPS)
def test_an_invite_that_rings_is_repeated_no_more(hop: Hop) -> None:
    bench = Bench()
    client = bench.client(hop=hop)
    bench.run(400)
    bench.answer(client.request, 100)
    bench.run(60_000)
    bench.answer(client.request, 180)
    bench.run(120_000)
    assert bench.times == [0]
    assert bench.responses == [100, 180]
    assert client.state is State.proceeding
    bench.answer(client.request, 200)
    bench.run(120_000 + LIFE_MS)
    assert bench.clean()
    assert not bench.failures


def test_an_invite_does_not_ring_for_ever() -> None:
    bench = Bench()
    client = bench.client()
    bench.answer(client.request, 180)
    bench.run(10_000)
    bench.answer(client.request, 180)
    bench.run(10_000 + RINGING_MS - 1)
    assert not bench.failures
    bench.run(10_000 + RINGING_MS)
    assert bench.failures == [Failure.timeout]
    assert bench.clean()


def test_a_request_that_is_worked_on_is_repeated_more_slowly() -> None:
    """E goes on with T2 (17.1.2.2), F as before."""
    bench = Bench()
    client = bench.client("OPTIONS")
    bench.run(600)
    bench.answer(client.request, 100)
    bench.run(LIFE_MS)
    assert bench.times == [0, 500, *range(1500, 32_000, T2_MS)]
    assert bench.failures == [Failure.timeout]
    assert bench.clean()


@pytest.mark.parametrize(("hop", "lingers_ms"), [(UDP, COMPLETED_MS), (TCP, 0)])
@pytest.mark.parametrize("code", [301, 404, 486, 503, 603])
def test_a_refusal_is_acknowledged_each_time(hop: Hop, lingers_ms: int, code: int) -> None:
    """D."""
    bench = Bench()
    client = bench.client(hop=hop)
    bench.answer(client.request, code)
    assert bench.starts == ["INVITE sip:bob@192.0.2.2 SIP/2.0", "ACK sip:bob@192.0.2.2 SIP/2.0"]
    assert bench.sent[1][1] == hop
    if lingers_ms:
        bench.run(lingers_ms - 1)
        assert bench.answer(client.request, code) is client
        assert bench.starts[2:] == ["ACK sip:bob@192.0.2.2 SIP/2.0"]
        assert bench.answer(client.request, 180) is client
        assert bench.answer(client.request, 200) is client
        bench.run(lingers_ms)
    assert bench.responses == [code]
    assert bench.clean()
    assert bench.answer(client.request, code) is None
    assert not bench.failures


def test_the_ack_of_a_refusal_is_the_invites_own() -> None:
    """17.1.1.3: the same Via, numbers and routes; the To of the response."""
    bench = Bench()
    client = bench.client()
    bench.answer(client.request, 486)
    ack = read_request(bench.sent[-1][2])
    assert sip.values(ack, "Via") == sip.values(client.request, "Via")
    assert sip.values(ack, "Route") == sip.values(client.request, "Route")
    assert ack.headers["CSeq"] == "1 ACK"
    assert ack.headers["From"] == client.request.headers["From"]
    assert sip.to_tag(ack) == "t1"
    assert server_key(ack) == server_key(client.request)


def test_the_ack_stays_the_same_when_the_request_is_sent_again() -> None:
    """After a 401 the same request goes out with another branch and number (22.2)."""
    bench = Bench()
    made = asked("INVITE", "z9hG4bKold")
    first = bench.all.request(made, UDP, 0, lambda *_: None, lambda *_: None)
    challenge = sip.response(first.request, 401, tag="t1")
    bench.all.response(challenge, 0)
    made.headers.setlist("Via", ["SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKnew"])
    made.headers.set("CSeq", "2 INVITE")
    bench.all.request(made, UDP, 0, lambda *_: None, lambda *_: None)
    bench.all.response(challenge, 10)
    ack = read_request(bench.sent[-1][2])
    assert ack.headers["CSeq"] == "1 ACK"
    assert sip.top_via(ack).parameters["branch"] == "z9hG4bKold"
    assert bench.sent[-1][2] == bench.sent[1][2]


@pytest.mark.parametrize("hop", HOPS)
def test_every_2xx_reaches_the_caller(hop: Hop) -> None:
    """RFC 6026, 7.2: Accepted, for M; the ACK is not the transaction's."""
    bench = Bench()
    client = bench.client(hop=hop)
    bench.answer(client.request, 200)
    assert client.state is State.accepted
    bench.run(500)
    bench.answer(client.request, 200)
    bench.answer(client.request, 202)
    bench.answer(client.request, 180)
    bench.answer(client.request, 486)
    bench.run(LIFE_MS - 1)
    bench.answer(client.request, 200)
    assert bench.responses == [200, 200, 202, 200]
    assert len(bench.sent) == 1
    bench.run(LIFE_MS)
    assert bench.clean()
    assert bench.answer(client.request, 200) is None


@pytest.mark.parametrize(("hop", "lingers_ms"), [(UDP, T4_MS), (TCP, 0)])
@pytest.mark.parametrize("code", [200, 302, 404, 500])
def test_a_final_response_to_others_is_told_once(hop: Hop, lingers_ms: int, code: int) -> None:
    """K."""
    bench = Bench()
    client = bench.client("BYE", hop)
    bench.run(100)
    bench.answer(client.request, code)
    if lingers_ms:
        bench.run(100 + lingers_ms - 1)
        assert bench.answer(client.request, code) is client
        bench.run(100 + lingers_ms)
    assert bench.responses == [code]
    assert bench.times == [0]
    assert bench.clean()


def test_a_response_needs_branch_and_method() -> None:
    """17.1.3: a CANCEL has the branch of its INVITE."""
    bench = Bench()
    invite, cancel = bench.client("INVITE"), bench.client("CANCEL")
    assert len(bench.all.clients) == 2
    assert bench.answer(cancel.request, 200) is cancel
    assert bench.answer(invite.request, 487) is invite
    assert bench.answer(asked("INVITE", "z9hG4bKother"), 200) is None
    assert bench.answer(asked("BYE", "z9hG4bKc1"), 200) is None
    assert bench.responses == [200, 487]


@pytest.mark.parametrize("code", [0, 100, 180])
def test_after_a_cancel_the_wait_is_limited(code: int) -> None:
    """9.1: also when it goes on ringing."""
    bench = Bench()
    client = bench.client()
    assert isinstance(client, InviteClient)
    bench.answer(client.request, 100)
    client.give_up(bench.now_ms)
    bench.run(10_000)
    if code:
        bench.answer(client.request, code)
    bench.run(LIFE_MS)
    assert bench.failures == [Failure.timeout]
    assert bench.clean()


@pytest.mark.parametrize(
    ("method", "codes", "failures"),
    [
        ("INVITE", [], [Failure.transport]),
        ("INVITE", [180], [Failure.transport]),
        ("INVITE", [486], []),
        ("INVITE", [200], []),
        ("BYE", [], [Failure.transport]),
        ("BYE", [100], [Failure.transport]),
        ("BYE", [200], []),
    ],
)
def test_a_lost_way(method: str, codes: list[int], failures: list[Failure]) -> None:
    """17.1.4."""
    bench = Bench()
    client = bench.client(method)
    for code in codes:
        bench.answer(client.request, code)
    bench.all.failed(Hop("udp", "192.0.2.99", 5060), 0)
    assert not bench.failures
    bench.all.failed(UDP, 0)
    assert bench.failures == failures
    bench.run(LIFE_MS)
    assert bench.failures == failures
    assert bench.clean()


def test_who_is_told_of_a_failure_may_ask_again() -> None:
    bench = Bench()
    again: list[ClientTransaction] = []
    for number in range(3):
        bench.all.request(
            asked("OPTIONS", f"z9hG4bK{number}"), UDP, 0, lambda *_: None, lambda *_: again.append(bench.client("BYE"))
        )
    bench.all.failed(UDP, 0)
    assert len(again) == 3


# Servers: G, H, I, J


@pytest.mark.parametrize(("hop", "times"), [(UDP, G), (TCP, [0])])
@pytest.mark.parametrize("code", [302, 486, 503, 603])
def test_a_refusal_is_repeated_until_the_ack(hop: Hop, times: list[int], code: int) -> None:
    """G and H."""
    bench = Bench()
    server = bench.server(hop=hop)
    server.refuse(code, 0)
    bench.run(LIFE_MS - 1)
    assert bench.times == times
    assert server.state is State.completed
    bench.run(LIFE_MS)
    assert bench.clean()


@pytest.mark.parametrize(("hop", "lingers_ms"), [(UDP, T4_MS), (TCP, 0)])
def test_after_the_ack_nothing_is_sent(hop: Hop, lingers_ms: int) -> None:
    """I."""
    bench = Bench()
    server = bench.server(hop=hop)
    assert isinstance(server, InviteServer)
    server.refuse(486, 0)
    bench.run(100)
    server.ack(100)
    if lingers_ms:
        assert server.state is State.confirmed
        server.ack(100)
        server.repeated(100)
        bench.run(100 + lingers_ms - 1)
        assert bench.all.server(asked("ACK", "z9hG4bKs1")) is server
        bench.run(100 + lingers_ms)
    assert bench.times == [0]
    assert bench.clean()


def test_a_repeated_invite_gets_what_was_said_last() -> None:
    bench = Bench()
    server = bench.server()
    server.repeated(0)
    assert not bench.sent
    server.respond(sip.response(server.request, 100), 0)
    server.repeated(10)
    server.respond(sip.response(server.request, 180, tag="t"), 20)
    server.repeated(30)
    server.refuse(486, 40)
    server.repeated(50)
    assert [line.split()[1] for line in bench.starts] == ["100", "100", "180", "180", "486", "486"]


@pytest.mark.parametrize("hop", HOPS)
def test_after_a_2xx_a_repeated_invite_is_no_new_one(hop: Hop) -> None:
    """RFC 6026, 7.1: Accepted, for L; the 2xx is repeated by the call, not here."""
    bench = Bench()
    server = bench.server(hop=hop)
    assert isinstance(server, InviteServer)
    server.refuse(200, 0)
    assert server.state is State.accepted
    server.repeated(10)
    server.ack(20)
    bench.run(LIFE_MS - 1)
    assert bench.all.server(asked("INVITE", "z9hG4bKs1")) is server
    assert bench.times == [0]
    bench.run(LIFE_MS)
    assert bench.clean()


@pytest.mark.parametrize(("hop", "lingers_ms"), [(UDP, LIFE_MS), (TCP, 0)])
@pytest.mark.parametrize("code", [200, 404, 503])
def test_other_requests_are_answered_once_and_again(hop: Hop, lingers_ms: int, code: int) -> None:
    """J."""
    bench = Bench()
    server = bench.server("BYE", hop)
    server.repeated(0)
    assert not bench.sent
    server.refuse(code, 0)
    if lingers_ms:
        bench.run(lingers_ms - 1)
        server.repeated(bench.now_ms)
        assert bench.times == [0, lingers_ms - 1]
        bench.run(lingers_ms)
    assert bench.clean()


@pytest.mark.parametrize("method", ["INVITE", "BYE"])
@pytest.mark.parametrize("code", [200, 486])
def test_there_is_one_final_response(method: str, code: int) -> None:
    bench = Bench()
    server = bench.server(method)
    server.refuse(code, 0)
    assert server.answered
    for later in (100, 180, 200, 500):
        server.refuse(later, 0)
    assert len(bench.sent) == 1
    bench.run(2 * LIFE_MS)
    server.refuse(500, bench.now_ms)
    assert bench.clean()


def test_headers_of_a_refusal() -> None:
    bench = Bench()
    server = bench.server("OPTIONS")
    server.refuse(503, 0, "Come back later", Retry_After="5")
    answer = read_response(bench.sent[0][2])
    assert (answer.phrase, answer.headers["Retry-After"]) == ("Come back later", "5")
    assert sip.to_tag(answer) == server.tag


@pytest.mark.parametrize(
    ("via", "hop", "reply"),
    [
        ("SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bK1", Hop("udp", "192.0.2.1", 999), Hop("udp", "192.0.2.1", 5070)),
        ("SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bK1;rport", Hop("udp", "192.0.2.1", 999), Hop("udp", "192.0.2.1", 999)),
        ("SIP/2.0/TCP 10.0.0.1:5070;branch=z9hG4bK1", Hop("tcp", "192.0.2.1", 999, 3), Hop("tcp", "192.0.2.1", 999, 3)),
    ],
)
def test_responses_and_their_repetitions_go_one_way(via: str, hop: Hop, reply: Hop) -> None:
    bench = Bench()
    message = asked("INVITE", via=via)
    sip.received_from(message, hop)
    server = bench.all.serve(message, hop, 0)
    server.refuse(486, 0)
    server.repeated(1)
    bench.run(5000)
    assert {to for _, to, _ in bench.sent} == {reply}


# Whose request it is (17.2.3)

NEW = "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKs1"
OLD = "SIP/2.0/UDP 192.0.2.1:5060;branch=1"


@pytest.mark.parametrize(
    ("first", "then", "same"),
    [
        (asked("INVITE", via=NEW), asked("INVITE", via=NEW), True),
        (asked("INVITE", via=NEW), asked("ACK", via=NEW), True),
        (asked("INVITE", via=NEW), asked("CANCEL", via=NEW), False),
        (asked("INVITE", via=NEW), asked("INVITE", via=NEW.replace("s1", "s2")), False),
        (asked("INVITE", via=NEW), asked("INVITE", via=NEW.replace("192.0.2.1", "192.0.2.9")), False),
        (asked("INVITE", via=NEW), asked("INVITE", via=NEW.replace("5060", "5061")), False),
        (asked("INVITE", via=NEW), asked("INVITE", via=NEW + ";received=1.2.3.4", sequence=1), True),
        (asked("INVITE", via=OLD), asked("INVITE", via=OLD), True),
        (asked("INVITE", via=OLD), asked("ACK", via=OLD), True),
        (asked("INVITE", via=OLD), asked("INVITE", via=OLD, sequence=2), False),
        (asked("INVITE", via=OLD), asked("CANCEL", via=OLD), False),
        (asked("INVITE", via=OLD), asked("INVITE", via=OLD.replace("branch=1", "branch=2")), False),
        # The magic alone is no branch: two calls of one peer are two.
        (
            asked("INVITE", via="SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK"),
            asked("INVITE", via="SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK", sequence=2),
            False,
        ),
        (asked("INVITE", via="SIP/2.0/UDP 192.0.2.1"), asked("INVITE", via="SIP/2.0/UDP 192.0.2.1"), True),
    ],
)
def test_requests_find_their_transaction(first: Request, then: Request, same: bool) -> None:
    bench = Bench()
    server = bench.all.serve(first, UDP, 0)
    assert bench.all.server(then) is (server if same else None)


@pytest.mark.parametrize("via", [NEW, OLD])
def test_a_cancel_finds_its_invite(via: str) -> None:
    bench = Bench()
    server = bench.all.serve(asked("INVITE", via=via), UDP, 0)
    cancel = asked("CANCEL", via=via)
    assert bench.all.server(cancel) is None
    assert bench.all.servers.get(server_key(cancel, "INVITE")) is server
    other = bench.all.serve(cancel, UDP, 0)
    assert bench.all.server(asked("INVITE", via=via)) is server
    assert bench.all.server(cancel) is other


def test_old_calls_that_differ_in_one_thing_are_two() -> None:
    bench = Bench()
    bench.all.serve(asked("INVITE", via=OLD), UDP, 0)
    for name, value in (("Call-ID", "c2"), ("From", "<sip:ann@192.0.2.1>;tag=f2")):
        other = asked("INVITE", via=OLD)
        other.headers.set(name, value)
        assert bench.all.server(other) is None


def test_there_is_room_for_so_many() -> None:
    bench = Bench(most=2)
    servers = [bench.server("OPTIONS", branch=f"z9hG4bK{number}") for number in range(2)]
    assert bench.all.full
    servers[0].refuse(200, 0)
    assert bench.all.full
    bench.run(LIFE_MS)
    assert not bench.all.full


# Whatever happens, nothing is left


@settings(max_examples=200)
@given(st.integers(0, 1 << 32), st.sampled_from(HOPS))
def test_in_the_end_nothing_is_left(seed: int, hop: Hop) -> None:
    chance = random.Random(seed)
    bench = Bench(most=100)
    clients: list[ClientTransaction] = []
    servers: list[ServerTransaction] = []
    for step in range(40):
        match chance.randrange(8):
            case 0:
                clients.append(bench.client(chance.choice(["INVITE", "BYE"]), hop, f"z9hG4bKc{step}"))
            case 1:
                servers.append(bench.server(chance.choice(["INVITE", "BYE"]), hop, f"z9hG4bKs{step}"))
            case 2 if clients:
                bench.answer(chance.choice(clients).request, chance.choice([100, 180, 200, 302, 486]))
            case 3 if servers:
                chance.choice(servers).refuse(chance.choice([180, 200, 486]), bench.now_ms)
            case 4 if servers:
                chance.choice(servers).repeated(bench.now_ms)
            case 5 if servers:
                found = chance.choice(servers)
                if isinstance(found, InviteServer):
                    found.ack(bench.now_ms)
            case 6 if chance.random() < 0.1:
                bench.all.failed(hop, bench.now_ms)
            case _:
                bench.run(bench.now_ms + chance.randint(1, 6000))
    for server in servers:
        server.refuse(500, bench.now_ms)
    bench.run(bench.now_ms + RINGING_MS + LIFE_MS)
    assert bench.clean()
    assert len(bench.failures) + sum(code >= 200 for code in bench.responses) >= len(clients)


# Timers


def test_timers_ring_in_order_and_once() -> None:
    timers = Timers()
    rung: list[tuple[str, int]] = []

    def arm(key: str, at_ms: int) -> None:
        timers.arm(key, at_ms, lambda now_ms: rung.append((key, now_ms)))

    arm("b", 20)
    arm("a", 10)
    arm("gone", 15)
    arm("moved", 5)
    arm("moved", 30)
    arm("same as a", 10)
    timers.disarm("gone")
    timers.disarm("never there")
    assert (timers.deadline_ms, len(timers)) == (10, 4)
    timers.tick(9)
    assert not rung
    timers.tick(25)
    assert rung == [("a", 25), ("same as a", 25), ("b", 25)]
    assert timers.deadline_ms == 30
    timers.tick(30)
    assert rung[3:] == [("moved", 30)]
    assert timers.deadline_ms is None


def test_a_ring_may_arm_and_disarm() -> None:
    timers = Timers()
    rung: list[str] = []

    def first(now_ms: int) -> None:
        rung.append("first")
        timers.disarm("second")
        timers.arm("first", now_ms + 10, lambda _: rung.append("again"))
        timers.arm("at once", now_ms, lambda _: rung.append("at once"))

    timers.arm("first", 10, first)
    timers.arm("second", 10, lambda _: rung.append("second"))
    timers.tick(10)
    assert rung == ["first", "at once"]
    timers.tick(20)
    assert rung == ["first", "at once", "again"]
    assert len(timers) == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), st.integers(0, 100))), max_size=300))
def test_timers_against_a_simple_model(acts: list[tuple[int, int | None]]) -> None:
    timers, model = Timers(), dict[int, int]()
    for key, at_ms in acts:
        if at_ms is None:
            timers.disarm(key)
            model.pop(key, None)
        else:
            timers.arm(key, at_ms, lambda _: None)
            model[key] = at_ms
        assert timers.deadline_ms == min(model.values(), default=None)
        assert len(timers) == len(model)


def test_what_was_disarmed_takes_no_room() -> None:
    timers = Timers()
    for number in range(10_000):
        timers.arm("one", 1_000_000 + number, lambda _: None)
    assert len(timers._heap) < 200
