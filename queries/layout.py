"""What a store holds: its labels and relationships with their properties, in words. Needs no driver.

Properties that only serve writers (keys aside) are said to be so. `gradtrace schema` prints this, and a test compares it
with a store that was written in every way there is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Part:
    """A label, or a type of relationship.

    Attributes:
        name: as Cypher has it (`"Step"`, `"HAS_STEP"`).
        pattern: where it stands (`"(:Run)-[:HAS_STEP]->(:Step)"`); for a label the label itself.
        about: what one of them is.
        properties: what each property means; a name that ends in `*` stands for all that begin so.
    """

    name: str
    pattern: str
    about: str
    properties: Mapping[str, str] = field(default_factory=dict)


_COUNTS = {
    "traffic": "traces that do",
    "mass": "sum of |gradient| of the parameter scalars of these traces",
}
_CARRIED = {
    "share": "mass over the mass of all traces",
    "mass": "sum of |gradient| of the parameter scalars whose traces cross it",
    "traffic": "traces that cross it",
    "visits": "how often a trace enters it, in the mean",
    "own": "the part of mass from parameters inside",
    "foreign": "the part of mass from parameters outside",
    "contested": "departures of traces from forks with one way into it and one past it",
    "won": "those of them that went into it",
    "flow": "sum of |w·g| over the operator edges that enter it",
}
_HEAD = {"mode": "how traces choose: greedy or maxprod", "batch": "training or probe"}
_ARRAYS = {
    "flow": "an entry an edge, by EDGE.idx: sum of |w·g| over its scalar edges",
    "peak": "likewise: the largest |w·g|",
}


def _label(name: str, about: str, /, **properties: str) -> Part:
    return Part(name, f"(:{name})", about, properties)


def _link(name: str, pattern: str, about: str, /, **properties: str) -> Part:
    return Part(name, pattern, about, properties)


LABELS: tuple[Part, ...] = (
    _label("Experiment", "A name under which runs belong together.", name="its name, unique"),
    _label(
        "Run",
        "One training.",
        id="its id, unique",
        status="QUEUED, RUNNING, FINISHED, INTERRUPTED or FAILED",
        workload="what was trained",
        experiment="name of its experiment",
        modes="modes that are traced",
        parameters="all hyperparameters, as JSON",
        **{
            "param_*": "each hyperparameter by its name; one with a dot wants backticks: r.`param_optimizer.lr`",
            "held_out_*": "what it measured on held-out examples when it ended, by name: r.held_out_loss",
        },
        started="when it was announced",
        updated="when a step was last stored",
        ended="when it ended",
        reason="why it ended as it did",
        steps="traced steps that are stored",
        first_step="the first of them",
        last_step="the last of them",
        pruned="how many of them lost their detail",
        spec="what a worker is to do, as JSON; submitted runs alone",
        attempts="tries since the last progress",
        position="optimizer steps up to the current checkpoint",
        checkpoint="name of the current checkpoint",
        planned="optimizer steps that it is to make",
        live_step="optimizer step at the worker's last sign of life",
        live_loss="loss there",
        live_rate="optimizer steps a second there",
        problem="what went wrong last",
        cancel="whether it is to stop",
        holder="the worker that has it, as JSON",
        lease="until when it has it",
        fence="grows whenever a worker takes it; older writers are refused",
        lock="for writers only",
    ),
    _label(
        "Step",
        "One traced optimizer step. Its index wants a bound on step beside the run: s.run = $run AND s.step >= 0.",
        key="run:step, unique",
        run="id of its run",
        step="number of the optimizer step",
        epoch="number of the pass over the data",
        loss="loss of the step",
        batch="the batch that flow and peak are of",
        **_ARRAYS,
        non_finite="whether NaN or an infinity was met",
        watched="parameters whose paths were asked for by name",
        notes="what is to be known about it",
        pruned="when its detail was dropped",
        expanded="when its edges were spelt out (`gradtrace db expand`)",
    ),
    _label(
        "Trace",
        "The traces of one step in one mode on one batch. Arrays have an entry an edge of its graph, by EDGE.idx.",
        key="run:step:mode:batch, unique",
        **_HEAD,
        loss="loss of the batch",
        flow="as of the step, where its batch is another than the step's",
        peak="as of the step, where its batch is another than the step's",
        traffic="array: traces that cross the edge",
        mass="array: sum of |gradient| of the parameter scalars of these traces",
        dominant="array: whether the edge is the way out of its source with most mass",
        non_finite="whether NaN or an infinity was met",
        consistent="whether Σ w·g = g held at every vertex",
    ),
    _label(
        "Graph",
        "An operator graph, shared by all steps that have it.",
        fingerprint="its hash, unique",
        name="class of the model",
        architecture="hash of its architecture",
        folded="whether its time steps are folded into one",
        vertices="how many it has",
        edges="how many it has",
    ),
    _label(
        "Vertex",
        "A parameter, a constant, an operator or the loss.",
        key="fingerprint:idx, unique",
        idx="its place in the graph, an operand before what reads it",
        kind="operator, parameter, constant or loss",
        op="the operator as autograd names it",
        name="its name",
        component="path of the innermost component",
        shape="shape of its output, or of the parameter",
        time="time step that it belongs to",
    ),
    _label("Parameter", "A vertex that is a parameter tensor; it has the label Vertex too."),
    _label("Architecture", "A model's components.", hash="unique", name="class of the model"),
    _label(
        "Component",
        "A named part of a model.",
        key="architecture:path, unique",
        path="its dotted path; <model> is the model itself",
        name="the last word of its path",
        role="what the user said it is for",
        depth="how many components contain it",
    ),
    _label("Path", "The operators that a trace crosses in one graph.", hash="unique", vertices="their idx, in order"),
    _label(
        "Route",
        "The components that traces cross, with repeats collapsed; comparable between runs.",
        hash="unique; `other` for all routes beyond those kept",
        components="its tokens, in order",
        text="the same as one text",
    ),
    _label(
        "Epoch",
        "What an epoch of a run adds up to, in one mode on one batch and graph.",
        key="unique",
        run="id of the run",
        epoch="number of the pass over the data",
        **_HEAD,
        graph="fingerprint of the graph",
        steps="traced steps",
        finite_losses="those with a finite loss",
        loss="mean of these losses; NaN where there is none",
        non_finite="steps at which NaN or an infinity was met",
        first="the first of the steps",
        last="the last of the steps",
        flow="array by EDGE.idx: sum over the steps",
        peak="array: the largest",
        traffic="array: sum over the steps",
        mass="array: sum over the steps",
        components="paths of the innermost components, in order; the arrays that follow run by them, over all graphs",
        shares="array by component: mass over the mass of all traces",
        foreign_shares="array by component: that of parameters outside it alone",
        won="array by component: forks won",
        contested="array by component: forks contested",
    ),
    _label(
        "ScalarGraph",
        "The scalar graph of one batch of a step (--granularity scalar). One that hangs on no step is being written.",
        key="unique",
        batch="training or probe",
        vertices="how many scalars it has",
        edges="how many edges it has",
        draft="since when it is being written",
    ),
    _label(
        "Scalar",
        "One scalar of an operator's output, or of a parameter.",
        key="key of its graph:idx, unique",
        idx="its place in the scalar graph; an edge leads to a greater one",
        output="which output of the operator it is in",
        index="flat index in that output, or in the parameter",
        component="path of its innermost component",
        gradient="gradient of the loss by it",
    ),
    _label(
        "Migration",
        "One step of the store's own schema.",
        number="its number, unique",
        name="its name",
        checksum="digest of its text",
        applied="when it was applied",
    ),
)
"""Every label."""

RELATIONSHIPS: tuple[Part, ...] = (
    _link("IN", "(:Run)-[:IN]->(:Experiment)", "The run belongs to the experiment."),
    _link("HAS_STEP", "(:Run)-[:HAS_STEP]->(:Step)", "A traced step of the run."),
    _link("HAS_SCALARS", "(:Step)-[:HAS_SCALARS]->(:ScalarGraph)", "One a batch, at scalar granularity."),
    _link("HAS_SCALAR", "(:ScalarGraph)-[:HAS_SCALAR]->(:Scalar)", "A scalar of the graph."),
    _link("OF", "(:Scalar)-[:OF]->(:Vertex)", "The operator or parameter that it is a scalar of."),
    _link(
        "WEIGHS",
        "(:Scalar)-[:WEIGHS]->(:Scalar)",
        "The operator that made the second scalar read the first. Two may stand side by side: x*x reads x twice.",
        idx="its place in the scalar graph",
        edge="EDGE.idx of the operators' edge",
        slot="which operand it is",
        weight="partial of the second scalar by the first; where it is 0 there is no edge",
        flow="|weight · gradient of the second|: the candidate that greedy compares",
    ),
    _link(
        "NEXT",
        "(:Scalar)-[:NEXT]->(:Scalar)",
        "Where the trace of the first scalar goes: one way a mode, none from a dead scalar.",
        mode="greedy or maxprod",
        idx="WEIGHS.idx of the edge that it takes",
        slot="as of that edge",
        weight="as of that edge",
    ),
    _link("HAS_EPOCH", "(:Run)-[:HAS_EPOCH]->(:Epoch)", "What an epoch of the run adds up to."),
    _link("HAS_TRACE", "(:Step)-[:HAS_TRACE]->(:Trace)", "One a mode and batch."),
    _link("ON", "(:Step|Trace|Epoch|Path)-[:ON]->(:Graph)", "The graph that its arrays, or its operators, are of."),
    _link("HAS", "(:Graph)-[:HAS]->(:Vertex)", "A vertex of the graph."),
    _link(
        "EDGE",
        "(:Vertex)-[:EDGE]->(:Vertex)",
        "The second operator reads the first vertex.",
        idx="its place in the arrays of steps, traces and epochs",
        slot="which operand it is",
    ),
    _link("BELONGS_TO", "(:Vertex)-[:BELONGS_TO]->(:Component)", "Its innermost component."),
    _link("OFFERS", "(:Architecture)-[:OFFERS]->(:Component)", "A component of the model."),
    _link("PART_OF", "(:Component)-[:PART_OF]->(:Component)", "The component that contains it."),
    _link(
        "CARRIES",
        "(:Trace)-[:CARRIES]->(:Component)",
        "What crosses a component, its parts included, at one step.",
        **_CARRIED,
        times="time steps in which most of mass begins, at most eight",
        time_mass="the mass that begins in each",
        examples="positions in the batch in which most of mass begins, at most eight",
        example_mass="the mass that begins in each",
    ),
    _link(
        "DOMINANT",
        "(:Trace)-[:DOMINANT]->(:Path)",
        "The path of a parameter's scalar with the largest |gradient|.",
        parameter="name of the parameter",
        scalar="flat index of the scalar",
        mass="its |gradient|",
        parameter_gradient="its gradient",
        share="mass over the parameter's whole mass",
        margin="least ratio of winner to runner-up on the way",
        concentration="|product of the weights| over |gradient|",
        example="position in the batch that it goes through",
        time="first time step that it goes through",
        index="per operator the flat index of the scalar; strongest and watched parameters alone, as the next two",
        weight="per operator the partial on the edge to it",
        gradient="per operator the gradient of the scalar",
    ),
    _link(
        "TOP",
        "(:Trace)-[:TOP]->(:Route)",
        "One of the routes with most mass at one step.",
        parameter="name of the parameter, * for all",
        **_COUNTS,
        rank="1 for the first",
    ),
    _link(
        "LEFT",
        "(:Trace)-[:LEFT]->(:Parameter)",
        "What became of a parameter's scalars at one step.",
        traffic="scalars with a trace",
        mass="sum of their |gradient|",
        dead="scalars that were read, but all of whose candidates are zero",
        unread="scalars that no operator read",
        non_finite="scalars whose gradient is NaN or infinite",
    ),
    _link(
        "SPREAD",
        "(:Step)-[:SPREAD]->(:Parameter)",
        "Sums over all paths of a parameter, where the modes entropy or abs-sum were traced.",
        mode="entropy or abs-sum",
        batch="training or probe",
        live="scalars with a path",
        mass="sum of |gradient|",
        abs_sum="sum of the weights of all paths, |product of the partials| each",
        coherence="mass over abs_sum: 1 where no path cancels another",
        entropy="entropy in nats over the paths, each by its weight",
    ),
    _link(
        "SPREAD_IN",
        "(:Step)-[:SPREAD_IN]->(:Component)",
        "Likewise, of the paths that cross a component.",
        mode="entropy or abs-sum",
        batch="training or probe",
        share="abs_sum over that of all paths",
        abs_sum="sum of the weights of these paths",
        own="the part from parameters inside",
        foreign="the part from parameters outside",
        coherence="as of a parameter, over the paths that start inside",
        entropy="likewise",
    ),
    _link("TAKES", "(:Path)-[:TAKES]->(:Route)", "The components that the path crosses."),
    _link("VISITS", "(:Path)-[:VISITS]->(:Vertex)", "An operator of the path; `vertices` of the path has their order."),
    _link("CROSSES", "(:Route)-[:CROSSES]->(:Component)", "A component of the route, or one that contains it."),
    _link(
        "FOLLOWS",
        "(:Run)-[:FOLLOWS]->(:Path)",
        "Over a run: how often a parameter's strongest scalar took the path.",
        key="unique",
        **_HEAD,
        parameter="name of the parameter",
        steps="at how many steps",
        mass="sum of |gradient| there",
        first="the first of them",
        last="the last of them",
    ),
    _link(
        "TOOK",
        "(:Run)-[:TOOK]->(:Route)",
        "Over an epoch: how much took the route, at the steps at which it was among those kept.",
        run="id of the run",
        **_HEAD,
        epoch="number of the pass over the data",
        parameter="name of the parameter, * for all",
        steps="at how many steps",
        **_COUNTS,
        rank="its best rank",
        first="the first of the steps",
        last="the last of the steps",
    ),
    _link(
        "EPOCH_SHARE",
        "(:Run)-[:EPOCH_SHARE]->(:Component)",
        "Over an epoch: what crossed the component. Sums over the steps; share and visits are means.",
        key="unique",
        run="id of the run",
        **_HEAD,
        epoch="number of the pass over the data",
        steps="traced steps",
        total="mass of all traces",
        **_CARRIED,
    ),
    _link(
        "WEIGHED",
        "(:Vertex)-[:WEIGHED]->(:Vertex)",
        "The values of an edge at one step, for graph browsers (`gradtrace db expand RUN STEP`).",
        trace="key of the trace",
        run="id of the run",
        step="number of the step",
        **_HEAD,
        idx="EDGE.idx",
        slot="which operand it is",
        **_ARRAYS,
        **_COUNTS,
        dominant="whether it is the way out of its source with most mass",
    ),
)
"""Every type of relationship."""
