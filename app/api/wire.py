"""What the HTTP interface says, as pydantic models."""

from pydantic import BaseModel


class Health(BaseModel):
    status: str  # "ok", or what is wrong
    version: str
    flows: list[str]
    calls: int
    max_calls: int
