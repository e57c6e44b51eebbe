"""Who may begin anything with us: addresses that the guard allows, and users who sign in (RFC 3261, 22)."""

from sipmessage import Request

from media.sip import message as sip
from media.sip.agent import Agent
from media.sip.auth import Asker, Known
from media.sip.endpoint import Refusal
from media.sip.guard import Trust
from media.sip.message import Hop


class Screening:
    def __init__(self, agent: Agent) -> None:
        options = agent.options
        self._agent = agent
        self.asker = Asker(options.realm, options.users, options.digests)
        self._signed_in = "", "", ""  # who did so last: Call-ID, From tag and user

    def screen(self, request: Request, hop: Hop, now_ms: int) -> Refusal | None:
        """An unknown source has to sign in, whatever it asks for: so nobody learns what there is.

        Requests within a dialog do not come here: whoever knows its tags was told them by us or by the peer, and
        may come from anywhere, for telephones move and proxies have several addresses.
        """
        agent, guard = self._agent, self._agent.guard
        self._signed_in = "", "", ""
        if guard.allows(hop.host):
            return None
        if not agent.options.users:
            return Refusal(0)  # we call it, but it may not call us
        known = self.asker.check(request, now_ms)
        if isinstance(known, Known):
            self._signed_in = request.call_id, sip.from_tag(request), known.user
            guard.signed_in(hop.host, now_ms, stream=hop.reliable)
            agent.transport.streams.signed_in(hop.connection)
            return None
        if not known and request.headers.get("Authorization") is not None:
            agent.offended(hop)
            if guard.admits(hop.host, now_ms, stream=hop.reliable) is Trust.dropped:
                return Refusal(0)
        return Refusal(401, self.asker.challenges(now_ms, stale=bool(known)))

    def user_of(self, request: Request) -> str:
        """Who signed in for this request, asked for at once after it passed; empty: nobody."""
        *asked, user = self._signed_in
        return user if asked == [request.call_id, sip.from_tag(request)] else ""
