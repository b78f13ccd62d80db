"""The independent judge of the tracer.

From a recorded loss it builds the explicit scalar graph with no knowledge of operators: every autograd node is probed
with one-hot gradients. It imports torch, numpy and the standard library only, never `gradtrace`.
"""
