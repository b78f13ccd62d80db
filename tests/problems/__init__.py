"""Small named problems: a model, a batch and a loss, to judge the tracer by."""

from tests.problems.collection import Problem, by_name, everything

__all__ = ["Problem", "by_name", "everything"]
