"""Queries to begin with: how the store's data is asked for well. Each one runs as it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gradtrace.queries.model import Lookup


@dataclass(frozen=True, slots=True)
class Idiom:
    """A query to copy and change.

    Attributes:
        name: what it answers, in a few words.
        about: what is to be learnt from it.
        cypher: the query.
        parameters: where values of its parameters are found: a column of a question of the library.
    """

    name: str
    about: str
    cypher: str
    parameters: Mapping[str, Lookup] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """How to run it in a shell; parameters that are left open are in capitals."""
        given = "".join(f" -p {name}={name.upper()}" for name in self.parameters)
        return f"gradtrace cypher '{self.cypher}'{given}"


_RUN, _STEP = Lookup("run-ids", "run"), Lookup("traced-steps", "step")
_PARAMETER, _EXPERIMENT = Lookup("parameter-names", "parameter"), Lookup("experiment-names", "experiment")

IDIOMS: tuple[Idiom, ...] = (
    Idiom(
        "the steps of a run",
        "The index on Step is by run and step: bound both, and the rows come in order.",
        """MATCH (s:Step)
WHERE s.run = $run AND s.step >= 0
RETURN s.step AS step, s.epoch AS epoch, s.loss AS loss
ORDER BY step""",
        {"run": _RUN},
    ),
    Idiom(
        "what a hyperparameter does",
        "Hyperparameters are properties param_NAME of the run.",
        """MATCH (:Experiment {name: $experiment})<-[:IN]-(r:Run)
RETURN r.param_lr AS lr, count(*) AS runs, sum(r.steps) AS steps
ORDER BY lr""",
        {"experiment": _EXPERIMENT},
    ),
    Idiom(
        "the flow of every edge",
        "Values of edges are arrays on the step, with an entry an edge: step.flow[edge.idx].",
        """MATCH (s:Step {run: $run, step: $step})-[:ON]->(:Graph)-[:HAS]->(a)-[e:EDGE]->(b)
RETURN a.name AS source, b.name AS target, s.flow[e.idx] AS flow
ORDER BY flow DESC LIMIT 20""",
        {"run": _RUN, "step": _STEP},
    ),
    Idiom(
        "the dominant walk of a parameter",
        "From each vertex the edge with most mass: a walk over real relationships, chosen by an array.",
        """MATCH (:Step {run: $run, step: $step})-[:HAS_TRACE]->(t:Trace)-[:ON]->(g:Graph)
WITH t, g ORDER BY t.batch DESC, t.mode LIMIT 1
MATCH (g)-[:HAS]->(:Parameter {name: $parameter})
      ((a)-[e:EDGE]->(b) WHERE t.dominant[e.idx])+ (:Vertex {kind: "loss"})
RETURN [v IN b | v.name] AS operators, size(e) AS hops""",
        {"run": _RUN, "step": _STEP, "parameter": _PARAMETER},
    ),
    Idiom(
        "shares by epoch, without the steps",
        "Rollups hold what a run's steps add up to: they cost nothing to read, however long the run is.",
        """MATCH (:Run {id: $run})-[e:EPOCH_SHARE {mode: "greedy", batch: "training"}]->(c:Component)
RETURN e.epoch AS epoch, c.path AS component, e.mass / e.total AS share
ORDER BY epoch, share DESC""",
        {"run": _RUN},
    ),
    Idiom(
        "the path of a parameter over a run",
        "FOLLOWS counts paths over the run; Path.vertices has the operators of one in order, by their idx in the graph.",
        """MATCH (:Run {id: $run})-[f:FOLLOWS {parameter: $parameter}]->(p:Path)-[:ON]->(g:Graph)
WITH f, p, g ORDER BY f.steps DESC LIMIT 3
CALL (g) { MATCH (g)-[:HAS]->(v:Vertex) WITH v ORDER BY v.idx RETURN collect(v.name) AS names }
RETURN f.mode AS mode, f.batch AS batch, f.steps AS steps, f.first AS first, f.last AS last,
       [idx IN p.vertices | names[idx]] AS operators
ORDER BY steps DESC""",
        {"run": _RUN, "parameter": _PARAMETER},
    ),
    Idiom(
        "routes that cross a component, over runs",
        "Routes are shared by runs: from the component to the routes, and on to the runs that took them.",
        """MATCH (r:Run {id: $run})-[t:TOOK {mode: "greedy", batch: "training", parameter: "*"}]->(n:Route)
      -[:CROSSES]->(c:Component)
WHERE c.depth > 0
RETURN c.path AS component, count(DISTINCT n) AS routes, sum(t.mass) AS mass
ORDER BY mass DESC LIMIT 20""",
        {"run": _RUN},
    ),
    Idiom(
        "aggregate, then expand",
        "Paths are counted first and their operators looked up last; the other way round reads every path at every step.",
        """MATCH (:Run {id: $run})-[f:FOLLOWS {mode: "greedy", batch: "training"}]->(p:Path)
WITH p, sum(f.steps) AS steps
MATCH (p)-[:VISITS]->(v:Vertex)
RETURN v.name AS operator, sum(steps) AS crossings
ORDER BY crossings DESC LIMIT 20""",
        {"run": _RUN},
    ),
    Idiom(
        "the chain rule, scalar by scalar",
        "At scalar granularity Σ w·g = g can be read off: from the step to its scalars, and along their edges.",
        """MATCH (:Step {run: $run, step: $step})-[:HAS_SCALARS]->(g)-[:HAS_SCALAR]->(v)-[w:WEIGHS]->(u)
MATCH (v)-[:OF]->(o)
RETURN g.batch AS batch, o.name AS name, v.index AS index, v.gradient AS gradient,
       sum(w.weight * u.gradient) AS arrived
ORDER BY abs(gradient) DESC LIMIT 20""",
        {"run": _RUN, "step": _STEP},
    ),
)
"""Every idiom, from simple ones on."""
