"""The tests. Where several workers run them, each computes in one thread: threads of OpenMP that
wait for one another on cores that others use take four times the processor time of one.
"""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # it is read when torch, scikit-learn or NumPy is loaded
    os.environ.setdefault("OMP_NUM_THREADS", "1")
