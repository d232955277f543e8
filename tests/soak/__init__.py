"""What is long and rare: `make soak`, minutes a test, run before a release or after a change of the engine.

A test belongs here when it needs a real control plane or real pods for longer than `make test` can spend, and what it
looks for shows up only with many objects, much time or many deaths. It asserts like every other test: what it ends
with is known beforehand, and a failure names the object and what differs. Random choices come from a seed that the
failure shows; SOAK_SEED repeats one (kills follow the clock, so a repeat is similar, not the same).

Each test has a control plane of its own (tests/bench/controlplane.py), gone at the end; logs stay in build/soak.
"""
