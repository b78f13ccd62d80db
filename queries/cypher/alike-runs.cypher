// question = "Which runs are most like this one in what their components carry in the end?"
// group = "many runs"
// about = "Each run counts with its last traced epoch. A component that one of two runs lacks has share 0 there."
//
// [parameters]
// run = { type = "text", default_from = "run-ids.run", complete_from = "run-ids.run", about = "Id of the run; if left out, the newest one that has traced steps." }
// mode = { type = "text", default_from = "traced-modes.mode", complete_from = "traced-modes.mode", about = "How traces choose; if left out, greedy where the run has it." }
// batch = { type = "text", default_from = "traced-modes.batch", complete_from = "traced-modes.batch", about = "Batch that was traced, training or probe; if left out, training where the run has it." }
// experiment = { type = "text", optional = true, complete_from = "experiment-names.experiment", about = "Only runs of this experiment; if left out, of the same one." }
// limit = { type = "int", default = 10, min = 1, about = "Runs at most." }
//
// [columns]
// run = { type = "text", about = "Id of the other run." }
// workload = { type = "text", about = "Workload that it trained." }
// status = { type = "text", about = "QUEUED, RUNNING, FINISHED, INTERRUPTED or FAILED." }
// distance = { type = "float", unit = "fraction", about = "Mean over the components of the difference between the two shares; 0 for equal ones." }
// component = { type = "text", about = "Component in which they differ most." }
// difference = { type = "float", unit = "fraction", about = "Difference of its shares." }
// components = { type = "int", unit = "count", about = "Components that either has." }
// loss = { type = "float", unit = "loss", about = "Final loss of the other run: the mean over its last traced epoch.", null = "no loss is finite" }
// differs = { type = "texts", about = "Hyperparameters of the other run, as name=value, that this one does not have or has another value of." }
//
// [example]
// run = "char-lstm-20261123-231501-7f3a"
// workload = "char-lstm"
// status = "FINISHED"
// distance = 0.02
// component = "lstm.l0.carry"
// difference = 0.07
// components = 14
// loss = 1.92
// differs = ["seed=3"]
MATCH (b:Run {id: $run})-[:IN]->(x:Experiment)
CALL (b) {
  MATCH (y:Epoch)
  WHERE y.run = b.id AND y.epoch >= 0 AND y.mode = $mode AND y.batch = $batch
  RETURN max(y.epoch) AS last
}
CALL (b, last) {
  MATCH (b)-[e:EPOCH_SHARE]->(c)
  WHERE e.epoch = last AND e.mode = $mode AND e.batch = $batch AND c.depth > 0
  WITH c.path AS component, sum(e.mass) AS mass, sum(e.total) AS total
  RETURN collect({component: component, share: CASE WHEN total > 0 THEN -mass / total ELSE 0.0 END}) AS ours
}
WITH b, ours, coalesce($experiment, x.name) AS experiment
WHERE ours <> []
MATCH (:Experiment {name: experiment})<-[:IN]-(r:Run)
WHERE r <> b
CALL (r) {
  MATCH (x:Epoch)
  WHERE x.run = r.id AND x.epoch >= 0 AND x.mode = $mode AND x.batch = $batch
  RETURN max(x.epoch) AS last
}
// Not from each run on: that would read the sums of all its epochs. The index has those of one epoch.
WITH b, ours, last, collect(r.id) AS runs
MATCH (r)-[e:EPOCH_SHARE]->(c)
WHERE e.run IN runs AND e.epoch = last AND e.mode = $mode AND e.batch = $batch AND c.depth > 0
WITH b, ours, r, last, c.path AS component, sum(e.mass) AS mass, sum(e.total) AS total
WITH b, ours, r, last,
     collect({component: component, share: CASE WHEN total > 0 THEN mass / total ELSE 0.0 END}) AS theirs
UNWIND ours + theirs AS x
WITH b, r, last, x.component AS component, abs(sum(x.share)) AS difference
ORDER BY round(difference, 12) DESC, component
WITH b, r, last, avg(difference) AS distance, count(*) AS components,
     collect({component: component, difference: difference})[0] AS most
ORDER BY round(distance, 12), r.id
LIMIT $limit
CALL (r, last) {
  MATCH (x:Epoch)
  WHERE x.run = r.id AND x.epoch = last AND x.mode = $mode AND x.batch = $batch
  WITH sum(x.finite_losses) AS steps,
       sum(CASE WHEN x.finite_losses > 0 THEN x.loss * x.finite_losses ELSE 0.0 END) AS losses
  RETURN CASE WHEN steps > 0 THEN losses / steps END AS loss
}
RETURN r.id AS run, r.workload AS workload, r.status AS status, distance, most.component AS component,
       most.difference AS difference, components, loss,
       COLLECT {
         UNWIND keys(r) AS k
         WITH k WHERE k STARTS WITH 'param_' AND (b[k] IS NULL OR r[k] <> b[k])
         RETURN substring(k, 6) + '=' + toString(r[k]) AS setting ORDER BY setting
       } AS differs
ORDER BY round(distance, 12), run
