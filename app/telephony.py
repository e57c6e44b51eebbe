"""What the settings mean for telephone calls: SIP's options, and the rules by which calls of ours are judged."""

from typing import Final
from zoneinfo import ZoneInfo

from app.dialler.address import BadAddress, Numbering
from app.dialler.hours import BadHours, read_zone
from app.dialler.rules import BadRule, Destinations, Limits, Rules
from app.settings import Settings, SettingsError
from media.sip import message as sip
from media.sip.auth import Credentials
from media.sip.negotiation import Keying, Security
from media.sip.options import SipOptions, Trunk

LISTEN_ADVICE: Final = {
    "host": "--sip-host or VOICEGATE_SIP_HOST has to be an address of this machine",
    "port": "choose another port with --sip",
    "tls_port": "choose another port with VOICEGATE_SIP_TLS_PORT",
    "tls_certificate": "see VOICEGATE_SIP_TLS_CERTIFICATE and VOICEGATE_SIP_TLS_KEY",
}
"""What to do about each `media.sip.streams.ListenError`."""


def sip_options(settings: Settings, port: int) -> SipOptions:
    """Raises `SettingsError`."""
    return SipOptions(
        host=settings.sip_address,
        port=port,
        tls_port=settings.sip_tls_port,
        tls_certificate=settings.sip_tls_certificate,
        tls_key=settings.sip_tls_key,
        media_host=settings.media_host,
        public_address=settings.media_public_address,
        media_ports=settings.media_ports or (0, 0),
        allow=settings.sip_allow,
        users={one.user: one.password.get_secret_value() for one in settings.sip_users},
        realm=settings.sip_realm,
        digests=[name.upper() for name in settings.sip_digests],
        codecs=settings.sip_codecs,
        security=Security(settings.sip_srtp),
        ring_ms=settings.sip_ring_ms,
        trunks=_trunks(settings),
    )


def _trunks(settings: Settings) -> list[Trunk]:
    try:
        return [
            Trunk(
                name=one.name,
                uri=sip.uri_of(one.uri),
                credentials=Credentials(one.user, one.password.get_secret_value()) if one.user else None,
                caller=one.caller,
                register=one.register_,
                keying=Keying(one.srtp) if one.srtp is not None else None,
            )
            for one in settings.sip_trunks
        ]
    except sip.MessageError as error:
        raise SettingsError([f"VOICEGATE_SIP_TRUNKS: {error}"]) from None


def dial_rules(settings: Settings) -> tuple[Rules, ZoneInfo]:
    """Raises `SettingsError`."""
    homes = [sip.uri_of(trunk.uri).host for trunk in settings.sip_trunks]

    def micros(amount: float | None) -> int | None:
        return None if amount is None else round(amount * 1_000_000)

    try:
        numbering = Numbering(country=settings.dial_country)
        destinations = Destinations(settings.dial_allow, settings.dial_deny, numbering=numbering, homes=homes)
        limits = Limits(
            calls_per_day=settings.dial_per_day,
            calls_per_destination=settings.dial_per_destination,
            spend_per_day_micros=micros(settings.dial_spend_per_day),
            spend_per_call_micros=micros(settings.dial_spend_per_call),
            concurrent=settings.dial_concurrent,
            calls_per_second=settings.dial_per_s,
            call_s=settings.dial_max_s,
        )
        rates = {pattern: round(price * 1_000_000) for pattern, price in settings.dial_rates.items()}
        return Rules.of(destinations, limits, rates), read_zone(settings.dial_zone)
    except (BadRule, BadAddress, BadHours) as error:
        raise SettingsError([f"VOICEGATE_DIAL_*: {error}"]) from None
