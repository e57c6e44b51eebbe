"""The control plane."""

import media as media  # before numpy, of which it says how many threads it may have
