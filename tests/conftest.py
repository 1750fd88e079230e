"""One thread a process: models this small are slower on two, and their sums would differ in the last bits."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; processes that tests start inherit it
