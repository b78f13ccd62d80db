// question = "How many parameter scalars were without gradient, step by step?"
// group = "health"
// about = "At up to `points` steps; dead-parameters names the parameters at one step."
//
// [parameters]
// run = { type = "text", default_from = "run-ids.run", complete_from = "run-ids.run", about = "Id of the run; if left out, the newest one that has traced steps." }
// mode = { type = "text", default_from = "traced-modes.mode", complete_from = "traced-modes.mode", about = "How traces choose; if left out, greedy where the run has it." }
// batch = { type = "text", default_from = "traced-modes.batch", complete_from = "traced-modes.batch", about = "Batch that was traced, training or probe; if left out, training where the run has it." }
// parameter = { type = "text", optional = true, complete_from = "parameter-names.parameter", about = "Only this parameter tensor." }
// points = { type = "int", default = 60, min = 2, about = "Steps at most; of more, as many are taken at even distances, the first and the last among them." }
//
// [columns]
// step = { type = "int", unit = "step", about = "Number of the optimizer step." }
// epoch = { type = "int", unit = "epoch", about = "Number of the pass over the data." }
// parameters = { type = "int", unit = "count", about = "Parameter tensors that are counted here." }
// silent = { type = "int", unit = "count", about = "Those of them without any trace." }
// scalars = { type = "int", unit = "scalars", about = "Their scalars." }
// live = { type = "int", unit = "scalars", about = "Those with a trace." }
// dead = { type = "int", unit = "scalars", about = "Those that were read, but all of whose candidates are zero." }
// unread = { type = "int", unit = "scalars", about = "Those that no operator read." }
// non_finite = { type = "int", unit = "scalars", about = "Those whose gradient is NaN or infinite." }
// dead_share = { type = "float", unit = "fraction", about = "dead and unread over all of these scalars." }
//
// [example]
// step = 590
// epoch = 2
// parameters = 11
// silent = 0
// scalars = 90112
// live = 89600
// dead = 512
// unread = 0
// non_finite = 0
// dead_share = 0.0057
MATCH (s:Step)
WHERE s.run = $run AND s.step >= 0
MATCH (s)-[:HAS_TRACE]->(t:Trace {mode: $mode, batch: $batch})
WITH s, t ORDER BY s.run, s.step
WITH collect({step: s.step, epoch: s.epoch, t: t}) AS traced
WITH traced, CASE WHEN size(traced) > $points THEN $points ELSE size(traced) END AS points
UNWIND range(0, points - 1) AS i
WITH traced[CASE WHEN points < size(traced) THEN i * (size(traced) - 1) / (points - 1) ELSE i END] AS at
WITH at.step AS step, at.epoch AS epoch, at.t AS t
MATCH (t)-[l:LEFT]->(v:Parameter)
WHERE $parameter IS NULL OR v.name = $parameter
WITH step, epoch, count(*) AS parameters, sum(CASE WHEN l.traffic = 0 THEN 1 ELSE 0 END) AS silent,
     sum(l.traffic) AS live, sum(l.dead) AS dead, sum(l.unread) AS unread, sum(l.non_finite) AS non_finite
WITH *, live + dead + unread AS scalars
RETURN step, epoch, parameters, silent, scalars, live, dead, unread, non_finite,
       CASE WHEN scalars > 0 THEN toFloat(dead + unread) / scalars ELSE 0.0 END AS dead_share
ORDER BY step
