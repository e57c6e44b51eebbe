"""The journal's records: facts in, bytes out, and back.

A record is `(seq, ms, event, digest of effects)`. Sealed events are encrypted under the call's own key, which retention
deletes; the digests are keyed by it too, so that they give nothing away of the little that a birth date is. `chain`
links each record to all before it and to the header, and covers the ciphertext: it can be checked without the key.
"""

import hashlib
import struct
from collections.abc import Sequence

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct

from app.core.effects import AnyEffect
from app.core.events import AnyEvent

CORE_VERSION = 3
"""Goes up when the same events would give other effects: a journal is replayed by the version that wrote it."""

KEY_BYTES = 32
MAX_RECORD_BYTES = 64 * 1024


class CallHeader(Struct, frozen=True):
    """All but the epoch, which changes hands, stands at the beginning of the chain."""

    call: str
    flow: str  # its name
    flow_hash: str
    core_version: int
    epoch: int
    started_at: str  # UTC, ISO 8601; `ms` of the records count from here


class Record(Struct, frozen=True):
    seq: int  # from 1, without a gap
    epoch: int  # the owner that wrote it
    ms: int
    sealed: bool
    body: bytes  # the event's JSON, encrypted if sealed
    digest: bytes  # of the effects, 16 bytes
    chain: bytes  # of this record and the one before, 32 bytes


class CodecError(Exception):
    """A record that cannot be read: damaged, of another version, or its key is gone."""


_FIXED = struct.Struct(">QIQ?I")  # seq, epoch, ms, sealed, the body's size
_event_encoder = msgspec.json.Encoder()  # keeps the order of what was proposed: it is part of the fact
_encoder = msgspec.json.Encoder(order="deterministic")
_event_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)


def digest(effects: Sequence[AnyEffect], key: bytes) -> bytes:
    """16 bytes over orders, ids and arguments; equal effects under one key give equal digests."""
    return hashlib.blake2b(_encoder.encode(effects), digest_size=16, key=key).digest()


class Codec:
    """One call's encoder and decoder; remembers the chain's last link, so records go through it in order."""

    def __init__(self, key: bytes, header: CallHeader) -> None:
        """Raises `CodecError` for what cannot be a key."""
        if len(key) != KEY_BYTES:
            raise CodecError(f"call {header.call}: its key is damaged")
        self._key = key
        self._epoch = header.epoch
        self._cipher = AESGCM(key)
        self._nothing = digest((), key)
        self._chain = first_link(header)

    def encode(self, seq: int, ms: int, event: AnyEvent, effects: Sequence[AnyEffect], *, sealed: bool) -> Record:
        body = _event_encoder.encode(event)
        if sealed:
            body = self._cipher.encrypt(_nonce(self._epoch, seq), body, None)
        head = digest(effects, self._key) if effects else self._nothing
        self._chain = link(self._chain, seq, self._epoch, ms, sealed, body, head)
        return Record(seq, self._epoch, ms, sealed, body, head, self._chain)

    def decode(self, record: Record) -> AnyEvent:
        """Raises `CodecError` where the chain does not hold or the body is not an event."""
        try:
            chain = link(self._chain, record.seq, record.epoch, record.ms, record.sealed, record.body, record.digest)
        except struct.error:
            raise CodecError(f"record {record.seq}: no number of a record is that large or below 0") from None
        if chain != record.chain:
            raise CodecError(f"record {record.seq}: the chain is broken: it, one before it or the header was changed")
        self._chain = chain
        try:
            body = record.body
            if record.sealed:
                body = self._cipher.decrypt(_nonce(record.epoch, record.seq), body, None)
            return _event_decoder.decode(body)
        except InvalidTag:
            raise CodecError(f"record {record.seq}: sealed with another key") from None
        except msgspec.DecodeError as error:
            raise CodecError(f"record {record.seq}: not an event of this version") from error


def _nonce(epoch: int, seq: int) -> bytes:
    # Unique under the call's key: an epoch has one writer, which uses each seq once (NIST SP 800-38D, 8.2.1).
    return epoch.to_bytes(4, "big") + seq.to_bytes(8, "big")


def first_link(header: CallHeader) -> bytes:
    """The 32 bytes that a call's chain begins with."""
    fixed = (header.call, header.flow, header.flow_hash, header.core_version, header.started_at)
    return hashlib.blake2b(_encoder.encode(fixed), digest_size=32).digest()


def link(before: bytes, seq: int, epoch: int, ms: int, sealed: bool, body: bytes, head: bytes) -> bytes:
    """The chain's next 32 bytes."""
    fixed = _FIXED.pack(seq, epoch, ms, sealed, len(body))
    return hashlib.blake2b(before + fixed + body + head, digest_size=32).digest()
