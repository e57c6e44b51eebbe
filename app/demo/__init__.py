"""What the demonstration needs besides the server: a clinic that can be booked, and a caller who books it."""
