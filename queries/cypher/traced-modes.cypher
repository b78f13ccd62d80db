// question = "In which modes and on which batches was a run traced?"
// group = "lookup"
//
// [parameters]
// run = { type = "text", default_from = "run-ids.run", complete_from = "run-ids.run", about = "Id of the run; if left out, the newest one that has traced steps." }
// mode = { type = "text", optional = true, about = "Only this mode." }
//
// [columns]
// mode = { type = "text", about = "greedy or maxprod." }
// batch = { type = "text", about = "training or probe." }
// steps = { type = "int", unit = "count", about = "Steps that were traced so." }
//
// [example]
// mode = "greedy"
// batch = "training"
// steps = 60
MATCH (x:Epoch)
WHERE x.run = $run AND x.epoch >= 0 AND ($mode IS NULL OR x.mode = $mode)
RETURN x.mode AS mode, x.batch AS batch, sum(x.steps) AS steps
ORDER BY mode, batch DESC
