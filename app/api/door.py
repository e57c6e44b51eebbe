"""Whose leg it is that wants in, and which flow it gets."""

from collections.abc import Collection

from app.api import twilio
from app.api.access import Access, TooManyAttempts
from app.api.tickets import Tickets
from app.settings import Role, Settings
from media.gateway import LegRequest, Refused
from media.leg import CloseCode


class Door:
    """For all transports. Both methods raise `Refused`."""

    def __init__(self, settings: Settings, access: Access, tickets: Tickets, flows: Collection[str]) -> None:
        """`flows`: those that are served, the default first."""
        self._settings = settings
        self._access = access
        self._tickets = tickets
        self._flows = flows

    def permit(self, request: LegRequest) -> str:
        """The name under which whoever it is may be here."""
        if request.transport == "twilio":
            twilio.check_stream(self._settings, request)
            return ""
        if request.transport == "sip":  # its own guard has looked already
            return request.identity
        identity = self._tickets.redeem(request.token)
        if identity is None:
            try:
                identity = self._access.identify(request.token, request.peer, request.headers)
            except TooManyAttempts as error:
                raise Refused(CloseCode.too_fast, f"too many wrong tokens: wait {error.retry_s} s") from None
        if identity is None:
            raise Refused(CloseCode.unauthorized, "a valid token is needed")
        if request.listen and not identity.role.covers(Role.operator):
            raise Refused(CloseCode.forbidden, f"listening in needs the role {Role.operator}")
        return identity.name

    def route(self, request: LegRequest) -> str:
        """The flow's name."""
        user = request.called if request.transport == "sip" else ""
        named = user if user in self._flows else ""  # sip:clinic@this-server
        name = request.flow or self._settings.flow_for(request.called, user) or named or next(iter(self._flows))
        if name not in self._flows:
            raise Refused(CloseCode.unknown_flow, "there is no such flow")
        return name
