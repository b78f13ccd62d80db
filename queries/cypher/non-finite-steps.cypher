// question = "At which steps of a run was NaN or an infinity met, and where?"
// group = "health"
//
// [parameters]
// run = { type = "text", default_from = "run-ids.run", complete_from = "run-ids.run", about = "Id of the run; if left out, the newest one that has traced steps." }
// limit = { type = "int", default = 1000, min = 1, about = "Steps at most, the first ones." }
//
// [columns]
// step = { type = "int", unit = "step", about = "Number of the optimizer step." }
// epoch = { type = "int", unit = "epoch", about = "Number of the pass over the data." }
// loss = { type = "float", unit = "loss", about = "Loss of the training step." }
// traces = { type = "texts", about = "The traces that met it, as mode/batch." }
// parameters = { type = "texts", about = "Parameters with scalars whose gradient is NaN or infinite." }
// scalars = { type = "int", unit = "scalars", about = "How many scalars these are, at most of all traces of the step." }
//
// [example]
// step = 340
// epoch = 1
// loss = nan
// traces = ["greedy/training"]
// parameters = ["lstm.weight_hh_l0"]
// scalars = 12
MATCH (s:Step)
WHERE s.run = $run AND s.step >= 0 AND s.non_finite
WITH s ORDER BY s.run, s.step LIMIT $limit
CALL (s) {
  MATCH (s)-[:HAS_TRACE]->(t:Trace)-[l:LEFT]->(:Parameter)
  WITH t, sum(l.non_finite) AS scalars
  RETURN coalesce(max(scalars), 0) AS scalars
}
RETURN s.step AS step, s.epoch AS epoch, s.loss AS loss,
       COLLECT {
         MATCH (s)-[:HAS_TRACE]->(t:Trace) WHERE t.non_finite
         RETURN t.mode + '/' + t.batch AS trace ORDER BY t.batch DESC, t.mode
       } AS traces,
       COLLECT {
         MATCH (s)-[:HAS_TRACE]->(:Trace)-[l:LEFT]->(v:Parameter) WHERE l.non_finite > 0
         RETURN DISTINCT v.name AS name ORDER BY name
       } AS parameters,
       scalars
ORDER BY step
