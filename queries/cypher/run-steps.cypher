// question = "Which steps of a run were traced, with what loss, and what was odd about them?"
// group = "one run"
//
// [parameters]
// run = { type = "text", default_from = "run-ids.run", complete_from = "run-ids.run", about = "Id of the run; if left out, the newest one that has traced steps." }
// limit = { type = "int", default = 10000, min = 1, about = "Steps at most, the first ones." }
//
// [columns]
// step = { type = "int", unit = "step", about = "Number of the optimizer step." }
// epoch = { type = "int", unit = "epoch", about = "Number of the pass over the data." }
// loss = { type = "float", unit = "loss", about = "Loss of the training step." }
// traces = { type = "texts", about = "What was traced, as mode/batch." }
// graph = { type = "text", about = "Fingerprint of the graph of the step's training batch (or of its probe batch, if only that was traced)." }
// non_finite = { type = "bool", about = "Whether NaN or an infinity was met in loss, gradients or weights." }
// notes = { type = "texts", about = "What the tracer had to say about the step." }
//
// [example]
// step = 590
// epoch = 2
// loss = 2.13
// traces = ["greedy/training"]
// graph = "0f343b0931126a20f133d67c2b018a3b"
// non_finite = false
// notes = []
MATCH (s:Step)
WHERE s.run = $run AND s.step >= 0
WITH s ORDER BY s.run, s.step LIMIT $limit
MATCH (s)-[:ON]->(g:Graph)
RETURN s.step AS step, s.epoch AS epoch, s.loss AS loss,
       COLLECT {
         MATCH (s)-[:HAS_TRACE]->(t:Trace)
         RETURN t.mode + '/' + t.batch AS trace ORDER BY t.batch DESC, t.mode
       } AS traces,
       g.fingerprint AS graph, s.non_finite AS non_finite, s.notes AS notes
ORDER BY step
