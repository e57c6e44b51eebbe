"""Speech and model providers behind the ports: one vendor a file, and `scripted` for none at all."""
