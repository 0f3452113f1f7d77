"""A hostile day: soak, kill, fault-combination and flood runs against a whole stack, on real servers, over loopback.

``python -m benchmarks.hostile`` prints one table: what was tried, with how many inputs, and the faults that were found.
The figure that is wanted is 0 everywhere; the exit status is 1 otherwise.
"""
