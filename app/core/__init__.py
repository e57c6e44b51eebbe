"""The pure core of a call: no clock, chance, logging or I/O. `core.CallCore` is the door."""
