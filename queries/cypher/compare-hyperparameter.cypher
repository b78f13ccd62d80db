// question = "How does a hyperparameter change what components carry in the end, and the loss?"
// group = "many runs"
// about = "Components that it moves most come first. Each run counts with its last traced epoch. Runs without the hyperparameter are left out."
//
// [parameters]
// hyperparameter = { type = "text", required = true, complete_from = "hyperparameter-names.hyperparameter", about = "Name of the hyperparameter, like lr." }
// experiment = { type = "text", default_from = "experiment-names.experiment", complete_from = "experiment-names.experiment", about = "Name of the experiment; if left out, that of the newest run." }
// workload = { type = "text", optional = true, complete_from = "workload-names.workload", about = "Only runs of this workload." }
// mode = { type = "text", default = "greedy", choices = ["greedy", "maxprod"], about = "How traces choose." }
// batch = { type = "text", default = "training", choices = ["training", "probe"], about = "Batch that was traced." }
// limit = { type = "int", default = 20, min = 1, about = "Components at most." }
//
// [columns]
// component = { type = "text", about = "Path of the component; what its parts carry counts for it too." }
// value = { type = "text", about = "Value of the hyperparameter." }
// runs = { type = "int", unit = "count", about = "Runs with this value that have the component." }
// share = { type = "float", unit = "fraction", about = "Mean over these runs of the mass of the traces that cross it over the mass of all traces." }
// deviation = { type = "float", unit = "fraction", about = "Standard deviation of the share over these runs; 0 for a single one." }
// interval = { type = "float", unit = "fraction", about = "Half the width of the 95% interval of the mean share (Student's t).", null = "there is a single run" }
// effect = { type = "float", unit = "fraction", about = "Greatest less smallest mean share over the values." }
// loss = { type = "float", unit = "loss", about = "Mean final loss of these runs: that of a run is the mean over its last traced epoch.", null = "no loss is finite" }
// loss_deviation = { type = "float", unit = "loss", about = "Standard deviation of the final loss over these runs.", null = "no loss is finite" }
//
// [example]
// component = "layers.3.carry"
// value = "0.1"
// runs = 5
// share = 0.61
// deviation = 0.04
// interval = 0.05
// effect = 0.33
// loss = 1.92
// loss_deviation = 0.06
MATCH (:Experiment {name: $experiment})<-[:IN]-(r:Run)
WHERE r['param_' + $hyperparameter] IS NOT NULL AND ($workload IS NULL OR r.workload = $workload)
CALL (r) {
  MATCH (x:Epoch)
  WHERE x.run = r.id AND x.epoch >= 0 AND x.mode = $mode AND x.batch = $batch
  RETURN max(x.epoch) AS last
}
// Not from each run on: that would read the sums of all its epochs. The index has those of one epoch.
WITH last, collect(r.id) AS runs
MATCH (r)-[e:EPOCH_SHARE]->(c)
WHERE e.run IN runs AND e.epoch = last AND e.mode = $mode AND e.batch = $batch AND c.depth > 0
WITH r, last, c.path AS component, sum(e.mass) AS mass, sum(e.total) AS total
WITH r, last, collect({component: component, share: CASE WHEN total > 0 THEN mass / total ELSE 0.0 END}) AS shares
CALL (r, last) {
  MATCH (x:Epoch)
  WHERE x.run = r.id AND x.epoch = last AND x.mode = $mode AND x.batch = $batch
  WITH sum(x.finite_losses) AS steps,
       sum(CASE WHEN x.finite_losses > 0 THEN x.loss * x.finite_losses ELSE 0.0 END) AS losses
  RETURN CASE WHEN steps > 0 THEN losses / steps END AS loss
}
WITH toString(r['param_' + $hyperparameter]) AS value, shares, loss
UNWIND shares AS x
WITH value, loss, x.component AS component, x.share AS share
WITH component, value, count(*) AS runs, avg(share) AS share, stDev(share) AS deviation, avg(loss) AS loss,
     stDev(loss) AS loss_deviation
WITH component, collect({value: value, runs: runs, share: share, deviation: deviation, loss: loss,
                         loss_deviation: loss_deviation}) AS rows, max(share) - min(share) AS effect
ORDER BY round(effect, 12) DESC, component
LIMIT $limit
UNWIND rows AS x
// Quantiles of Student's t for 97.5% at 1 to 30 degrees of freedom; beyond, a good approximation.
WITH component, x, x.runs AS runs, x.deviation AS deviation, effect,
     [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131,
      2.12, 2.11, 2.101, 2.093, 2.086, 2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048, 2.045,
      2.042] AS quantiles
RETURN component, x.value AS value, runs, x.share AS share, deviation,
       CASE WHEN runs > 1
            THEN coalesce(quantiles[runs - 2], 1.96 + 2.5 / (runs - 1)) * deviation / sqrt(runs) END AS interval,
       effect, x.loss AS loss, CASE WHEN x.loss IS NOT NULL THEN x.loss_deviation END AS loss_deviation
ORDER BY round(effect, 12) DESC, component, toFloat(value), value
