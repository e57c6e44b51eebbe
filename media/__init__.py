"""The gateway: audio in and out, and what can be told of it."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when numpy loads: its threads cost small products far more
