// question = "In which time steps does most of each component's gradient begin?"
// group = "one run"
// about = "A trace begins in the time step of the first operator that it crosses: of a recurrence, how far back the gradient reaches. Eight time steps are kept of each component and step. Models in which nothing repeats have none."
//
// [parameters]
// run = { type = "text", default_from = "run-ids.run", complete_from = "run-ids.run", about = "Id of the run; if left out, the newest one that has traced steps." }
// mode = { type = "text", default_from = "traced-modes.mode", complete_from = "traced-modes.mode", about = "How traces choose; if left out, greedy where the run has it." }
// batch = { type = "text", default_from = "traced-modes.batch", complete_from = "traced-modes.batch", about = "Batch that was traced, training or probe; if left out, training where the run has it." }
// component = { type = "text", optional = true, complete_from = "component-names.component", about = "Only this component." }
// step = { type = "int", min = 0, optional = true, complete_from = "traced-steps.step", about = "Only this step." }
// points = { type = "int", default = 60, min = 2, about = "Steps at most; of more, as many are taken at even distances, the first and the last among them." }
// limit = { type = "int", default = 5, min = 1, about = "Time steps a component at most." }
//
// [columns]
// component = { type = "text", about = "Path of the component; what its parts carry counts for it too. <model> is the model itself." }
// rank = { type = "int", unit = "rank", about = "1 for the time step with most mass in the component." }
// time = { type = "int", unit = "time step", about = "Number of the repetition, from 0." }
// share = { type = "float", unit = "fraction", about = "mass over the mass of all traces that cross the component at these steps." }
// mass = { type = "float", unit = "gradient", about = "Sum of |gradient| of the parameter scalars whose traces cross the component and begin in this time step." }
// steps = { type = "int", unit = "count", about = "Steps at which this time step was among the eight that are kept of the component." }
//
// [example]
// component = "lstm.l0.carry"
// rank = 1
// time = 31
// share = 0.62
// mass = 7.9
// steps = 60
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
UNWIND range(0, size(coalesce(c.times, [])) - 1) AS i
WITH component, whole, c.times[i] AS time, sum(c.time_mass[i]) AS mass, count(*) AS steps
ORDER BY component, round(mass / whole, 12) DESC, time
WITH component, whole, collect({time: time, mass: mass, steps: steps})[..$limit] AS best
UNWIND range(1, size(best)) AS rank
WITH component, whole, rank, best[rank - 1] AS row
RETURN component, rank, row.time AS time, row.mass / whole AS share, row.mass AS mass, row.steps AS steps
ORDER BY component, rank
