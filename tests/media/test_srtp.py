"""SRTP and the keys for it: two ends understand each other, and nobody else is believed."""

import base64
import hmac
import random
import struct
import time

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from media.rtp import RtpPacket
from media.srtp import MAX_LINE_CHARS, MAX_LINES, MAX_PACKET_BYTES, MAX_SOURCES, SUITES, Crypto, Srtp, SrtpError, choose

KEY = bytes(range(30))
KEY_TEXT = base64.b64encode(KEY).decode()
LINE = f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY_TEXT}"
SUITE = "AES_CM_128_HMAC_SHA1_80"
TAG_BYTES = {  # of SRTP; what SRTCP adds (RFC 4568, 6.2; RFC 7714, 9 and 13)
    "AES_CM_128_HMAC_SHA1_80": (10, 14),
    "AES_CM_128_HMAC_SHA1_32": (4, 14),
    "AEAD_AES_128_GCM": (16, 20),
    "AEAD_AES_256_GCM": (16, 20),
}
PAYLOAD = b"what nobody else may hear" * 6


def rtp(sequence: int, ssrc: int = 99, payload: bytes = PAYLOAD) -> bytes:
    return RtpPacket(0, sequence, sequence * 160, ssrc, payload).pack()


def report(ssrc: int = 99) -> bytes:
    """An empty receiver report with a name."""
    return struct.pack(">BBHI", 0x80, 201, 1, ssrc) + struct.pack(">BBHI", 0x81, 202, 2, ssrc) + b"\x01\x01n\x00"


def two(suite: str) -> tuple[Srtp, Srtp]:
    """Both ends of one call."""
    one, other = Crypto.new(1, suite), Crypto.new(1, suite)
    return Srtp.of(one, other), Srtp.of(other, one)


def derived(key: bytes, label: int, size: int) -> bytes:
    """Of a master key and its salt (RFC 3711, 4.3.1 and 4.3.3)."""
    counter = int.from_bytes(key[16:], "big") ^ label << 48
    return keyed(key[:16], counter << 16, bytes(size))


def keyed(key: bytes, counter: int, data: bytes) -> bytes:
    cipher = Cipher(algorithms.AES(key), modes.CTR(counter.to_bytes(16, "big"))).encryptor()
    return cipher.update(data) + cipher.finalize()


def sealed_by_the_book(key: bytes, packet: bytes, tag_bytes: int) -> bytes:
    """RFC 3711, 4.1.1 and 4.2.1, for a packet of the first 65,536 without CSRCs or an extension."""
    sequence, ssrc = struct.unpack(">2xH4xI", packet[:12])
    salt = int.from_bytes(derived(key, 2, 14), "big")
    hidden = keyed(derived(key, 0, 16), salt << 16 ^ ssrc << 64 ^ sequence << 16, packet[12:])
    tag = hmac.digest(derived(key, 1, 20), packet[:12] + hidden + bytes(4), "sha1")
    return packet[:12] + hidden + tag[:tag_bytes]


# Packets


@pytest.mark.parametrize("suite", SUITES)
def test_two_ends_talk_both_ways(suite: str) -> None:
    one, other = two(suite)
    for sequence in range(65_500, 65_600):  # past the end of the numbers
        packet = rtp(sequence & 0xFFFF)
        for sender, receiver in ((one, other), (other, one)):
            sealed = sender.protect(packet)
            assert isinstance(sealed, bytes)
            assert sealed[:12] == packet[:12]
            assert PAYLOAD not in sealed
            assert len(sealed) == len(packet) + TAG_BYTES[suite][0]
            assert receiver.unprotect(sealed) == packet


@pytest.mark.parametrize("suite", SUITES)
def test_reports_go_the_same_way(suite: str) -> None:
    one, other = two(suite)
    seen = set()
    for _ in range(20):
        sealed = one.protect_rtcp(report())
        assert sealed[:8] == report()[:8]
        assert len(sealed) == len(report()) + TAG_BYTES[suite][1]
        assert other.unprotect_rtcp(sealed) == report()
        assert other.unprotect_rtcp(one.protect_rtcp(report(7))) == report(7)
        seen.add(sealed)
    assert len(seen) == 20  # never the same bytes twice


@pytest.mark.parametrize(("suite", "tag_bytes"), [(SUITE, 10), ("AES_CM_128_HMAC_SHA1_32", 4)])
def test_what_the_book_says_comes_out(suite: str, tag_bytes: int) -> None:
    crypto = Crypto.new(1, suite)
    sender, receiver = Srtp.of(crypto, crypto), Srtp.of(crypto, crypto)
    for sequence in (1, 2, 3, 500):
        expected = sealed_by_the_book(crypto.key, rtp(sequence), tag_bytes)
        assert sender.protect(rtp(sequence)) == expected
        assert receiver.unprotect(expected) == rtp(sequence)


@pytest.mark.parametrize("suite", SUITES)
def test_another_key_opens_nothing(suite: str) -> None:
    one, other = two(suite)
    stranger, _ = two(suite)
    with pytest.raises(SrtpError):
        other.unprotect(stranger.protect(rtp(1)))
    with pytest.raises(SrtpError):
        other.unprotect_rtcp(stranger.protect_rtcp(report()))
    with pytest.raises(SrtpError):
        one.unprotect(one.protect(rtp(1)))  # our own, sent back to us
    assert other.unprotect(one.protect(rtp(2))) == rtp(2)


@pytest.mark.parametrize("suite", SUITES)
def test_whatever_was_changed_is_refused(suite: str) -> None:
    one, other = two(suite)
    sealed, sealed_report = one.protect(rtp(1)), one.protect_rtcp(report())
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 1 << at % 8
        with pytest.raises(SrtpError):
            other.unprotect(bytes(changed))
    for at in range(len(sealed_report)):
        changed = bytearray(sealed_report)
        changed[at] ^= 1 << at % 8
        with pytest.raises(SrtpError):
            other.unprotect_rtcp(bytes(changed))
    for size in range(len(sealed)):
        with pytest.raises(SrtpError):
            other.unprotect(sealed[:size])
    for size in range(len(sealed_report)):
        with pytest.raises(SrtpError):
            other.unprotect_rtcp(sealed_report[:size])
    for longer in (sealed + b"\0", sealed + bytes(200)):
        with pytest.raises(SrtpError):
            other.unprotect(longer)
    assert other.unprotect(sealed) == rtp(1)
    assert other.unprotect_rtcp(sealed_report) == report()


@pytest.mark.parametrize("suite", SUITES)
def test_each_packet_counts_once_in_any_order(suite: str) -> None:
    one, other = two(suite)
    sealed = [one.protect(rtp(sequence)) for sequence in range(60)]
    order = list(range(60))
    random.Random(4).shuffle(order)
    for number in order:
        assert other.unprotect(sealed[number]) == rtp(number)
    for again in sealed:
        with pytest.raises(SrtpError):
            other.unprotect(again)
    reported = one.protect_rtcp(report())
    assert other.unprotect_rtcp(reported) == report()
    with pytest.raises(SrtpError):
        other.unprotect_rtcp(reported)


def test_what_is_older_than_the_window_is_refused() -> None:
    one, other = two(SUITE)
    late = one.protect(rtp(1))
    for sequence in range(2, 400):
        other.unprotect(one.protect(rtp(sequence)))
    with pytest.raises(SrtpError):
        other.unprotect(late)


def test_a_number_is_never_used_for_two_packets() -> None:
    one, _ = two(SUITE)
    one.protect(rtp(1))
    with pytest.raises(SrtpError):
        one.protect(rtp(1, payload=b"other words"))


@pytest.mark.parametrize("suite", SUITES)
def test_packets_have_a_longest_length(suite: str) -> None:
    one, other = two(suite)
    most = MAX_PACKET_BYTES - TAG_BYTES[suite][0] - 12
    assert other.unprotect(one.protect(rtp(1, payload=bytes(most)))) == rtp(1, payload=bytes(most))
    with pytest.raises(SrtpError):
        other.unprotect(one.protect(rtp(2, payload=bytes(most + 1))))
    one.protect(rtp(3, payload=bytes(MAX_PACKET_BYTES - 12)))
    for method in (one.protect, one.protect_rtcp, one.unprotect, one.unprotect_rtcp):
        for size in (MAX_PACKET_BYTES + 1, MAX_PACKET_BYTES + 148, 70_000):
            with pytest.raises(SrtpError):
                method(rtp(4) + bytes(size - len(rtp(4))))
        with pytest.raises(SrtpError):
            method(b"")
    longest = report() + bytes(MAX_PACKET_BYTES - TAG_BYTES[suite][1] - len(report()))
    assert other.unprotect_rtcp(one.protect_rtcp(longest)) == longest


def test_a_peer_has_only_so_many_sources() -> None:
    """Each costs memory that is not given back before the call is over."""
    one, other = two(SUITE)
    for ssrc in range(MAX_SOURCES):
        assert other.unprotect(one.protect(rtp(1, ssrc))) == rtp(1, ssrc)
    with pytest.raises(SrtpError):
        other.unprotect(one.protect(rtp(1, MAX_SOURCES)))
    with pytest.raises(SrtpError):
        other.unprotect_rtcp(one.protect_rtcp(report(MAX_SOURCES)))
    assert other.unprotect(one.protect(rtp(2, 5))) == rtp(2, 5)
    assert other.unprotect_rtcp(one.protect_rtcp(report(5))) == report(5)


def test_strangers_do_not_use_up_the_sources() -> None:
    one, other = two(SUITE)
    stranger, _ = two(SUITE)
    for ssrc in range(4 * MAX_SOURCES):
        with pytest.raises(SrtpError):
            other.unprotect(stranger.protect(rtp(1, ssrc)))
    assert other.unprotect(one.protect(rtp(1))) == rtp(1)


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=200) | st.binary(max_size=60).map(lambda rest: b"\x80\x00" + rest),
    st.sampled_from(sorted(SUITES)),
)
def test_any_bytes_are_refused(packet: bytes, suite: str) -> None:
    _, receiver = two(suite)
    for method in (receiver.unprotect, receiver.unprotect_rtcp):
        with pytest.raises(SrtpError):
            method(packet)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=100), st.sampled_from(sorted(SUITES)))
def test_any_bytes_can_be_asked_to_be_sealed(packet: bytes, suite: str) -> None:
    one, other = two(suite)
    for seal, unseal in ((one.protect, other.unprotect), (one.protect_rtcp, other.unprotect_rtcp)):
        try:
            sealed = seal(packet)
        except SrtpError:
            continue
        assert unseal(sealed) == packet


# Keys


@given(st.integers(0, 999_999_999), st.sampled_from(sorted(SUITES)), st.data())
def test_a_line_says_what_it_was_made_of(tag: int, suite: str, data: st.DataObject) -> None:
    size = SUITES[suite][1]
    crypto = Crypto(tag, suite, data.draw(st.binary(min_size=size, max_size=size)))
    assert Crypto.parse(str(crypto)) == crypto
    assert Crypto.parse(str(crypto).rstrip("=") + "|2^31") == crypto


def test_a_line_as_it_is_written() -> None:
    assert str(Crypto(1, SUITE, KEY)) == LINE
    assert Crypto.parse(LINE) == Crypto(1, SUITE, KEY)


@pytest.mark.parametrize("suite", SUITES)
def test_new_keys_are_new(suite: str) -> None:
    made = [Crypto.new(3, suite) for _ in range(50)]
    assert len({crypto.key for crypto in made}) == 50
    assert {(crypto.tag, crypto.suite, len(crypto.key)) for crypto in made} == {(3, suite, SUITES[suite][1])}


@pytest.mark.parametrize(
    "value",
    [
        f"  1   {SUITE}\tinline:{KEY_TEXT}  ",
        LINE + "|2^20",
        LINE + "|1048576",
        LINE + "|2^48 ",
        LINE.lower().replace(KEY_TEXT.lower(), KEY_TEXT),
        LINE + " WSH=64",
        LINE + "|2^20 WSH=128 -X-OURS=yes",
        "000000001" + LINE[1:],
    ],
)
def test_lines_that_differ_in_what_does_not_matter(value: str) -> None:
    assert Crypto.parse(value) == Crypto(1, SUITE, KEY)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "1",
        f"1 {SUITE}",
        f"1 {SUITE} inline:",
        f"1 {SUITE} {KEY_TEXT}",
        f"1 {SUITE} uri:{KEY_TEXT}",
        f"{SUITE} inline:{KEY_TEXT}",
        "-" + LINE,
        "x" + LINE,
        "1234567890" + LINE,
        "١" + LINE[1:],
        LINE.replace("_80", "_81"),
        LINE.replace(SUITE, "AES_256_CM_HMAC_SHA1_80"),
        LINE.replace(SUITE, "F8_128_HMAC_SHA1_80"),
        LINE.replace(SUITE, "NULL_HMAC_SHA1_80"),
        LINE.replace(SUITE, "AEAD_AES_128_GCM"),
        LINE + "|2^20|1:4",
        LINE + "|1:4",
        LINE + "|",
        LINE + "||2^20",
        LINE + ";inline:" + KEY_TEXT,
        LINE + "|2^20|1:4;inline:" + KEY_TEXT + "|2^20|2:4",
        LINE + " UNENCRYPTED_SRTP",
        LINE + " UNENCRYPTED_SRTCP",
        LINE + " unauthenticated_srtp",
        LINE + " WSH=64 UNAUTHENTICATED_SRTP",
        LINE + "|2^20 KDR=4",
        LINE + " FEC_ORDER=FEC_SRTP",
        LINE + "\nUNENCRYPTED_SRTP",
        LINE + "é",
        LINE[:-1],
        LINE[:-4],
        LINE + "AAAA",
        LINE + "====A",
        LINE.replace("inline:", "inline:="),
        LINE.replace("inline:", "inline: "),
        LINE + " " * MAX_LINE_CHARS,
        LINE + "|" + "2" * MAX_LINE_CHARS,
    ],
)
def test_lines_that_cannot_be_used(value: str) -> None:
    with pytest.raises(SrtpError) as told:
        Crypto.parse(value)
    assert KEY_TEXT not in str(told.value)
    assert choose([value]) is None


@settings(max_examples=500)
@given(st.text(max_size=120) | st.text("1 inline:|^=;AES_CM\n\t/+", max_size=120).map(lambda rest: LINE[:30] + rest))
def test_hostile_lines_give_a_key_or_a_srtp_error(value: str) -> None:
    try:
        crypto = Crypto.parse(value)
    except SrtpError:
        return
    assert Crypto.parse(str(crypto)) == crypto


@pytest.mark.parametrize("piece", ["|a", "|", " ", "=", "A", " -a", "1", "\n", "|2^20\n"])
def test_long_lines_cost_nothing(piece: str) -> None:
    started_s = time.process_time()
    for value in (LINE + piece * 200_000, LINE + piece * 100 + "\x00", piece * 200_000):
        choose([value] * 100)
    assert time.process_time() - started_s < 2


def test_the_first_line_that_can_be_used_is_chosen() -> None:
    usable = LINE.replace("1 ", "4 ", 1)
    lines = [
        "1 AES_256_CM_HMAC_SHA1_80 inline:" + base64.b64encode(bytes(46)).decode(),
        f"2 {SUITE} inline:{KEY_TEXT}|2^20|1:4",
        "nonsense",
        usable,
        LINE.replace("1 ", "5 ", 1),
    ]
    assert choose(lines) == Crypto(4, SUITE, KEY)
    assert choose([]) is None
    assert choose(["nonsense"] * MAX_LINES + [usable]) is None


@pytest.mark.parametrize(("suite", "key"), [(SUITE, b""), (SUITE, bytes(46)), ("AEAD_AES_256_GCM", KEY), ("", KEY)])
def test_a_key_has_its_suites_length(suite: str, key: bytes) -> None:
    with pytest.raises(SrtpError):
        Crypto(1, suite, key)


def test_a_suite_that_is_not_known_has_no_keys() -> None:
    with pytest.raises(SrtpError):
        Crypto.new(1, "AES_256_CM_HMAC_SHA1_80")


@pytest.mark.parametrize("suite", SUITES)
def test_no_repr_tells_a_key(suite: str) -> None:
    crypto = Crypto(1, suite, (b"SECRET" * 8)[: SUITES[suite][1]])
    assert repr(crypto) == f"Crypto(tag=1, suite='{suite}')"
    for shown in (repr([crypto]), f"{crypto!r}", repr(Srtp.of(crypto, crypto))):
        assert "SECRET" not in shown
        assert base64.b64encode(crypto.key).decode() not in shown


def test_ends_may_use_different_suites() -> None:
    one, other = Crypto.new(1, SUITE), Crypto.new(1, "AEAD_AES_256_GCM")
    here, there = Srtp.of(one, other), Srtp.of(other, one)
    assert there.unprotect(here.protect(rtp(1))) == rtp(1)
    assert here.unprotect(there.protect(rtp(1))) == rtp(1)
