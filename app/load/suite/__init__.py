"""How well the turns are taken: moments of calls, each with its right behaviour, played to a server and judged."""
