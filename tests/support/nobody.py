"""The call's end of a leg that has no call."""

from media.deaf import Deaf
from media.leg import Leg


class Nobody(Deaf):
    """Takes whatever a leg tells, and does nothing; what breaks in the leg is raised."""

    def attach(self, leg: Leg) -> None: ...

    def hung_up(self) -> None: ...

    def lost(self) -> None: ...

    def failed(self, error: Exception) -> None:
        raise error
