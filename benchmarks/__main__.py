"""`python -m benchmarks`."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy, as the command `onebranch` does

from benchmarks.command_line import main

main()
