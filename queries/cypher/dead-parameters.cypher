// question = "Which parameters have scalars without any gradient at one step?"
// group = "health"
// about = "Parameters all of whose scalars are live and finite are left out."
//
// [parameters]
// run = { type = "text", default_from = "run-ids.run", complete_from = "run-ids.run", about = "Id of the run; if left out, the newest one that has traced steps." }
// mode = { type = "text", default_from = "traced-modes.mode", complete_from = "traced-modes.mode", about = "How traces choose; if left out, greedy where the run has it." }
// batch = { type = "text", default_from = "traced-modes.batch", complete_from = "traced-modes.batch", about = "Batch that was traced, training or probe; if left out, training where the run has it." }
// step = { type = "int", min = 0, default_from = "traced-steps.step", complete_from = "traced-steps.step", about = "Number of a traced step; if left out, the last one." }
// limit = { type = "int", default = 1000, min = 1, about = "Parameters at most." }
//
// [columns]
// parameter = { type = "text", about = "Name of the parameter tensor." }
// shape = { type = "ints", unit = "scalars a dimension", about = "Its shape." }
// scalars = { type = "int", unit = "scalars", about = "How many scalars it has." }
// live = { type = "int", unit = "scalars", about = "Those with a trace." }
// dead = { type = "int", unit = "scalars", about = "Those that were read, but all of whose candidates are zero." }
// unread = { type = "int", unit = "scalars", about = "Those that no operator read." }
// non_finite = { type = "int", unit = "scalars", about = "Those whose gradient is NaN or infinite." }
// dead_share = { type = "float", unit = "fraction", about = "dead and unread over all of its scalars." }
//
// [example]
// parameter = "embed.weight"
// shape = [98, 64]
// scalars = 6272
// live = 2112
// dead = 0
// unread = 4160
// non_finite = 0
// dead_share = 0.66
MATCH (s:Step {run: $run, step: $step})-[:HAS_TRACE]->(t:Trace {mode: $mode, batch: $batch})-[l:LEFT]->(v:Parameter)

WITH v, l, l.traffic + l.dead + l.unread AS scalars
WHERE l.dead + l.unread + l.non_finite > 0
RETURN v.name AS parameter, v.shape AS shape, scalars, l.traffic AS live, l.dead AS dead, l.unread AS unread,
       l.non_finite AS non_finite, toFloat(l.dead + l.unread) / scalars AS dead_share
ORDER BY dead_share DESC, scalars DESC, parameter
LIMIT $limit
