"""A call's end of a leg besides the caller's."""

from app.core.events import LegJoined, LegLeft, LegRole
from app.core.state import Phase
from app.runtime.actor import CallActor
from media.deaf import Deaf
from media.leg import Leg


class Guest(Deaf):
    """Implements `media.leg.LegHandler` for a leg that only listens: nothing that it sends reaches the call."""

    def __init__(self, actor: CallActor, leg_id: str, role: LegRole, who: str) -> None:
        self._actor = actor
        self._leg_id = leg_id
        self._role = role
        self._who = who

    def attach(self, leg: Leg) -> None:
        state = self._actor.core.state
        if state.phase is Phase.ended:  # while the leg was being set up
            leg.end(state.cause, state.outcome)
            return
        self._actor.legs.guest(self._leg_id, leg)
        self._actor.post(LegJoined(self._leg_id, self._role, self._who))

    def hung_up(self) -> None:
        """Also of a leg that is not attached yet."""
        self._actor.legs.gone(self._leg_id)
        self._actor.post(LegLeft(self._leg_id))

    def lost(self) -> None:
        self.hung_up()

    def failed(self, error: Exception) -> None:
        self.hung_up()
