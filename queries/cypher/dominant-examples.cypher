// question = "In which examples of the batch does most of each component's gradient begin?"
// group = "one run"
// about = "A trace begins in the example that its first operator's output belongs to. Eight examples are kept of each component and step. A position in the batch is the same example from step to step only where the batch is held fixed (the probe batch); of shuffled batches ask about one step."
//
// [parameters]
// run = { type = "text", default_from = "run-ids.run", complete_from = "run-ids.run", about = "Id of the run; if left out, the newest one that has traced steps." }
// mode = { type = "text", default_from = "traced-modes.mode", complete_from = "traced-modes.mode", about = "How traces choose; if left out, greedy where the run has it." }
// batch = { type = "text", default_from = "traced-modes.batch", complete_from = "traced-modes.batch", about = "Batch that was traced, training or probe; if left out, training where the run has it." }
// component = { type = "text", optional = true, complete_from = "component-names.component", about = "Only this component." }
// step = { type = "int", min = 0, optional = true, complete_from = "traced-steps.step", about = "Only this step." }
// points = { type = "int", default = 60, min = 2, about = "Steps at most; of more, as many are taken at even distances, the first and the last among them." }
// limit = { type = "int", default = 5, min = 1, about = "Examples a component at most." }
//
// [columns]
// component = { type = "text", about = "Path of the component; what its parts carry counts for it too. <model> is the model itself." }
// rank = { type = "int", unit = "rank", about = "1 for the example with most mass in the component." }
// example = { type = "int", unit = "position", about = "Position in the batch, from 0." }
// share = { type = "float", unit = "fraction", about = "mass over the mass of all traces that cross the component at these steps." }
// mass = { type = "float", unit = "gradient", about = "Sum of |gradient| of the parameter scalars whose traces cross the component and begin in this example." }
// steps = { type = "int", unit = "count", about = "Steps at which this example was among the eight that are kept of the component." }
//
// [example]
// component = "lstm.l0.carry"
// rank = 1
// example = 17
// share = 0.21
// mass = 2.6
// steps = 41
MATCH (s:Step)
WHERE s.run = $run AND s.step >= coalesce($step, 0) AND s.step <= coalesce($step, 9223372036854775807)
MATCH (s)-[:HAS_TRACE]->(t:Trace {mode: $mode, batch: $batch})
WITH s, t ORDER BY s.run, s.step
WITH collect(t) AS traced
WITH traced, CASE WHEN size(traced) > $points THEN $points ELSE size(traced) END AS points
UNWIND range(0, points - 1) AS i
WITH traced[CASE WHEN points < size(traced) THEN i * (size(traced) - 1) / (points - 1) ELSE i END] AS t
MATCH (t)-[c:CARRIES]->(k:Component)
WHERE c.mass > 0 AND ($component IS NULL OR k.path = $component)
WITH k.path AS component, collect(c) AS rows, sum(c.mass) AS whole
UNWIND rows AS c
UNWIND range(0, size(coalesce(c.examples, [])) - 1) AS i
WITH component, whole, c.examples[i] AS example, sum(c.example_mass[i]) AS mass, count(*) AS steps
ORDER BY component, round(mass / whole, 12) DESC, example
WITH component, whole, collect({example: example, mass: mass, steps: steps})[..$limit] AS best
UNWIND range(1, size(best)) AS rank
WITH component, whole, rank, best[rank - 1] AS row
RETURN component, rank, row.example AS example, row.mass / whole AS share, row.mass AS mass, row.steps AS steps
ORDER BY component, rank
