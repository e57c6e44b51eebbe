"""No model at all: what the flow's own patterns and parsers read in the caller's words."""

from collections.abc import AsyncGenerator

from app.core.events import ToolRequest
from app.core.request import Request
from app.ports import Calls, Part, Proposal
from flows.rules import understand


class RulesLlm:
    """Proposes what it understood, then asks for the first tool that is ready. It says nothing and never waits."""

    async def stop(self) -> None:
        pass

    async def reply(self, request: Request) -> AsyncGenerator[Part, None]:
        if request.words:
            steps = request.flow.steps
            understood = understand(
                request.words,
                slots=request.slots,
                asked=request.asked,
                yesno=request.yesno,
                digressions={name: steps[name].phrases if name in steps else () for name in request.digressions},
            )
            if understood.slots or understood.intent:
                yield Proposal(understood.slots, understood.intent, request.words)
        if request.ready:
            tool = request.ready[0]
            yield Calls((ToolRequest(f"rules-{tool}", tool),))
