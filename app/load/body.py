"""Bodies of HTTP answers."""

import aiohttp


async def at_most(content: aiohttp.StreamReader, most_bytes: int) -> bytes:
    """All of a body, or what there is of it up to somewhere beyond its limit."""
    body = bytearray()
    async for part in content.iter_any():
        body += part
        if len(body) > most_bytes:
            break
    return bytes(body)
