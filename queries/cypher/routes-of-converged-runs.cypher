// question = "Which routes do converged runs have in common that the others lack?"
// group = "many runs"
// about = "A run has converged if its final loss, the mean over its last traced epoch, is at most `loss` and it did not fail; all others count as others, those without any traced step too. Routes are those of the last traced epoch, as far as they are kept."
//
// [parameters]
// experiment = { type = "text", default_from = "experiment-names.experiment", complete_from = "experiment-names.experiment", about = "Name of the experiment; if left out, that of the newest run." }
// workload = { type = "text", optional = true, complete_from = "workload-names.workload", about = "Only runs of this workload." }
// loss = { type = "float", optional = true, about = "Greatest final loss of a converged run; if left out, the median over the runs." }
// least = { type = "float", default = 1.0, min = 0, max = 1, about = "The part of the converged runs that must have the route." }
// most = { type = "float", default = 0.0, min = 0, max = 1, about = "The part of the others that may have it." }
// parameter = { type = "text", default = "*", about = "Name of a parameter tensor whose routes are compared; * for all of them." }
// mode = { type = "text", default = "greedy", choices = ["greedy", "maxprod"], about = "How traces choose." }
// batch = { type = "text", default = "training", choices = ["training", "probe"], about = "Batch that was traced." }
// limit = { type = "int", default = 20, min = 1, about = "Routes at most." }
//
// [columns]
// route = { type = "text", about = "Components that its traces cross, with repeats collapsed." }
// share = { type = "float", unit = "fraction", about = "Mean over the converged runs that have it of its part of the mass." }
// deviation = { type = "float", unit = "fraction", about = "Standard deviation of that part over these runs; 0 for a single one." }
// converged = { type = "int", unit = "count", about = "Converged runs that have it." }
// converged_runs = { type = "int", unit = "count", about = "All converged runs." }
// others = { type = "int", unit = "count", about = "Other runs that have it." }
// other_runs = { type = "int", unit = "count", about = "All other runs." }
// threshold = { type = "float", unit = "loss", about = "Greatest final loss that counts as converged." }
//
// [example]
// route = "embed (lstm.l0.carry lstm.l0.cell)+ head"
// share = 0.41
// deviation = 0.06
// converged = 12
// converged_runs = 12
// others = 0
// other_runs = 8
// threshold = 1.95
MATCH (:Experiment {name: $experiment})<-[:IN]-(r:Run)
WHERE $workload IS NULL OR r.workload = $workload
CALL (r) {
  MATCH (x:Epoch)
  WHERE x.run = r.id AND x.epoch >= 0 AND x.mode = $mode AND x.batch = $batch
  WITH x.epoch AS epoch, sum(x.finite_losses) AS steps,
       sum(CASE WHEN x.finite_losses > 0 THEN x.loss * x.finite_losses ELSE 0.0 END) AS losses
  ORDER BY epoch DESC LIMIT 1
  RETURN collect({epoch: epoch, loss: CASE WHEN steps > 0 THEN losses / steps END})[0] AS final
}
WITH collect({r: r, epoch: final.epoch, loss: final.loss}) AS runs, percentileCont(final.loss, 0.5) AS median
WITH runs, coalesce($loss, median) AS threshold
WITH threshold, [x IN runs WHERE x.loss <= threshold AND x.r.status <> 'FAILED'] AS good, runs
WITH threshold, size(good) AS of_converged, size(runs) - size(good) AS of_others, [x IN good | x.r] AS converged, runs
// Not from each run on: that would read the routes of all its epochs. The index has those of one epoch, of all runs.
UNWIND runs AS x
WITH threshold, of_converged, of_others, converged, x.epoch AS epoch, collect(x.r.id) AS taking
CALL (taking, epoch) {
  MATCH (r)-[t:TOOK]->(n)
  WHERE t.run IN taking AND t.epoch = epoch AND t.parameter = $parameter AND t.mode = $mode AND t.batch = $batch
  WITH r, n, sum(t.mass) AS mass
  RETURN r, collect([n, mass]) AS taken, sum(mass) AS total
}
WITH threshold, of_converged, of_others, collect([r IN converged, taken, total]) AS lines
CALL (lines) {
  UNWIND lines AS line
  UNWIND line[1] AS x
  WITH x[0] AS n, line[0] AS good, CASE WHEN line[2] > 0 THEN x[1] / line[2] ELSE 0.0 END AS share
  RETURN n, sum(CASE WHEN good THEN 1 ELSE 0 END) AS converged, sum(CASE WHEN good THEN 0 ELSE 1 END) AS others,
         avg(CASE WHEN good THEN share END) AS share, stDev(CASE WHEN good THEN share END) AS deviation
}
WITH threshold, of_converged, of_others, n, converged, others, share, deviation
WHERE converged > 0 AND converged >= $least * of_converged AND others <= $most * of_others AND n.hash <> 'other'
RETURN n.text AS route, share, deviation, converged, of_converged AS converged_runs, others, of_others AS other_runs,
       threshold
ORDER BY round(share, 12) DESC, route
LIMIT $limit

// === subgraph ===
MATCH (:Experiment {name: $experiment})<-[:IN]-(r:Run)
WHERE $workload IS NULL OR r.workload = $workload
CALL (r) {
  MATCH (x:Epoch)
  WHERE x.run = r.id AND x.epoch >= 0 AND x.mode = $mode AND x.batch = $batch
  WITH x.epoch AS epoch, sum(x.finite_losses) AS steps,
       sum(CASE WHEN x.finite_losses > 0 THEN x.loss * x.finite_losses ELSE 0.0 END) AS losses
  ORDER BY epoch DESC LIMIT 1
  RETURN collect({epoch: epoch, loss: CASE WHEN steps > 0 THEN losses / steps END})[0] AS final
}
WITH collect({r: r, epoch: final.epoch, loss: final.loss}) AS runs, percentileCont(final.loss, 0.5) AS median
WITH runs, coalesce($loss, median) AS threshold
WITH threshold, [x IN runs WHERE x.loss <= threshold AND x.r.status <> 'FAILED'] AS good, runs
WITH threshold, size(good) AS of_converged, size(runs) - size(good) AS of_others, [x IN good | x.r] AS converged, runs
// Not from each run on: that would read the routes of all its epochs. The index has those of one epoch, of all runs.
UNWIND runs AS x
WITH threshold, of_converged, of_others, converged, x.epoch AS epoch, collect(x.r.id) AS taking
CALL (taking, epoch) {
  MATCH (r)-[t:TOOK]->(n)
  WHERE t.run IN taking AND t.epoch = epoch AND t.parameter = $parameter AND t.mode = $mode AND t.batch = $batch
  WITH r, n, sum(t.mass) AS mass
  RETURN r, collect([n, mass]) AS taken, sum(mass) AS total
}
WITH threshold, of_converged, of_others, collect([r IN converged, taken, total]) AS lines
CALL (lines) {
  UNWIND lines AS line
  UNWIND line[1] AS x
  WITH x[0] AS n, line[0] AS good, CASE WHEN line[2] > 0 THEN x[1] / line[2] ELSE 0.0 END AS share
  RETURN n, sum(CASE WHEN good THEN 1 ELSE 0 END) AS converged, sum(CASE WHEN good THEN 0 ELSE 1 END) AS others,
         avg(CASE WHEN good THEN share END) AS share, stDev(CASE WHEN good THEN share END) AS deviation
}
WITH threshold, of_converged, of_others, n, converged, others, share, deviation
WHERE converged > 0 AND converged >= $least * of_converged AND others <= $most * of_others AND n.hash <> 'other'
WITH n, share ORDER BY round(share, 12) DESC, n.text LIMIT $limit
MATCH (n)-[x:CROSSES]->(c:Component)
RETURN n, x, c
