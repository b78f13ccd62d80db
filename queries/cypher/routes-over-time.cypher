// question = "Which routes through the components carried most of the gradient at each step?"
// group = "one run"
// about = "top-routes has the sums over the run or an epoch."
//
// [parameters]
// run = { type = "text", default_from = "run-ids.run", complete_from = "run-ids.run", about = "Id of the run; if left out, the newest one that has traced steps." }
// mode = { type = "text", default_from = "traced-modes.mode", complete_from = "traced-modes.mode", about = "How traces choose; if left out, greedy where the run has it." }
// batch = { type = "text", default_from = "traced-modes.batch", complete_from = "traced-modes.batch", about = "Batch that was traced, training or probe; if left out, training where the run has it." }
// parameter = { type = "text", default = "*", complete_from = "parameter-names.parameter", about = "Name of the parameter tensor where traces start; * for all." }
// points = { type = "int", default = 60, min = 2, about = "Steps at most; of more, as many are taken at even distances, the first and the last among them." }
// limit = { type = "int", default = 5, min = 1, about = "Routes a step at most." }
//
// [columns]
// step = { type = "int", unit = "step", about = "Number of the optimizer step." }
// epoch = { type = "int", unit = "epoch", about = "Number of the pass over the data." }
// rank = { type = "int", unit = "rank", about = "1 for the route with most mass at this step." }
// route = { type = "text", about = "Components crossed in order; + means two or more times; other is the sum of all routes beyond the kept ones." }
// tokens = { type = "texts", about = "The route word by word: names of components, and ( and )+ around what repeats; [] for other." }
// share = { type = "float", unit = "fraction", about = "mass over the mass of all traces of the parameter at the step." }
// mass = { type = "float", unit = "gradient", about = "Sum of |gradient| of the parameter scalars whose traces take it." }
// traffic = { type = "int", unit = "traces", about = "Traces that take it." }
//
// [example]
// step = 590
// epoch = 2
// rank = 1
// route = "embed (lstm.l0.carry lstm.l0.cell)+ head"
// tokens = ["embed", "(", "lstm.l0.carry", "lstm.l0.cell", ")+", "head"]
// share = 0.42
// mass = 12.7
// traffic = 90112
MATCH (s:Step)
WHERE s.run = $run AND s.step >= 0
MATCH (s)-[:HAS_TRACE]->(t:Trace {mode: $mode, batch: $batch})
WITH s, t ORDER BY s.run, s.step
WITH collect({step: s.step, epoch: s.epoch, t: t}) AS traced
WITH traced, CASE WHEN size(traced) > $points THEN $points ELSE size(traced) END AS points
UNWIND range(0, points - 1) AS i
WITH traced[CASE WHEN points < size(traced) THEN i * (size(traced) - 1) / (points - 1) ELSE i END] AS at
WITH at.step AS step, at.epoch AS epoch, at.t AS t
MATCH (t)-[x:TOP {parameter: $parameter}]->(r:Route)
// All rows of the parameter, "other" among them, add up to the whole.
WITH step, epoch, sum(x.mass) AS total, collect({x: x, r: r}) AS rows
UNWIND rows AS row
WITH step, epoch, total, row.x AS x, row.r AS r
WHERE x.rank <= $limit
RETURN step, epoch, x.rank AS rank, r.text AS route, coalesce(r.components, []) AS tokens,
       CASE WHEN total > 0 THEN x.mass / total ELSE 0.0 END AS share, x.mass AS mass, x.traffic AS traffic
ORDER BY step, rank
