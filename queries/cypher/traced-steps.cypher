// question = "Which steps of a run were traced in a mode on a batch, the last one first?"
// group = "lookup"
//
// [parameters]
// run = { type = "text", default_from = "run-ids.run", complete_from = "run-ids.run", about = "Id of the run; if left out, the newest one that has traced steps." }
// mode = { type = "text", default_from = "traced-modes.mode", complete_from = "traced-modes.mode", about = "How traces choose; if left out, greedy where the run has it." }
// batch = { type = "text", default_from = "traced-modes.batch", complete_from = "traced-modes.batch", about = "Batch that was traced, training or probe; if left out, training where the run has it." }
// most = { type = "int", default = 1000, min = 1, about = "Steps at most." }
//
// [columns]
// step = { type = "int", unit = "step", about = "Number of the step." }
//
// [example]
// step = 590
MATCH (s:Step)
WHERE s.run = $run AND s.step >= 0 AND EXISTS { (s)-[:HAS_TRACE]->(:Trace {mode: $mode, batch: $batch}) }
RETURN s.step AS step
ORDER BY s.run DESC, s.step DESC
LIMIT $most
