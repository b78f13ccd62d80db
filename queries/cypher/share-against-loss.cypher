// question = "Which components' shares go with a low or a high final loss over runs?"
// group = "many runs"
// about = "Each run counts with its last traced epoch. The strongest correlations come first. Runs without a finite final loss are left out; with few runs the interval is wide, and a correlation says nothing about causes."
//
// [parameters]
// experiment = { type = "text", default_from = "experiment-names.experiment", complete_from = "experiment-names.experiment", about = "Name of the experiment; if left out, that of the newest run." }
// workload = { type = "text", optional = true, complete_from = "workload-names.workload", about = "Only runs of this workload." }
// mode = { type = "text", default = "greedy", choices = ["greedy", "maxprod"], about = "How traces choose." }
// batch = { type = "text", default = "training", choices = ["training", "probe"], about = "Batch that was traced." }
// limit = { type = "int", default = 50, min = 1, about = "Components at most." }
//
// [columns]
// component = { type = "text", about = "Path of the component; what its parts carry counts for it too." }
// runs = { type = "int", unit = "count", about = "Runs that have it and a finite final loss." }
// correlation = { type = "float", unit = "fraction", about = "Pearson's correlation of the share with the final loss, from -1 to 1.", null = "there are fewer than three runs, or all have the same share or loss" }
// low = { type = "float", unit = "fraction", about = "Lower end of its 95% interval (Fisher's z).", null = "there are fewer than four runs, or the correlation is empty or perfect" }
// high = { type = "float", unit = "fraction", about = "Upper end of it.", null = "there are fewer than four runs, or the correlation is empty or perfect" }
// share = { type = "float", unit = "fraction", about = "Mean share over these runs." }
// deviation = { type = "float", unit = "fraction", about = "Standard deviation of the share over these runs." }
// loss = { type = "float", unit = "loss", about = "Mean final loss of these runs: that of a run is the mean over its last traced epoch." }
//
// [example]
// component = "layers.3.carry"
// runs = 20
// correlation = -0.71
// low = -0.88
// high = -0.39
// share = 0.61
// deviation = 0.14
// loss = 1.92
MATCH (:Experiment {name: $experiment})<-[:IN]-(r:Run)
WHERE $workload IS NULL OR r.workload = $workload
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
WITH shares, loss WHERE loss IS NOT NULL
UNWIND shares AS x
WITH loss, x.component AS component, x.share AS share
WITH component, count(*) AS runs, avg(share) AS share, stDev(share) AS deviation, avg(loss) AS loss,
     stDev(loss) AS spread, collect({share: share, loss: loss}) AS pairs
WITH component, runs, share, deviation, loss,
     CASE WHEN runs > 2 AND deviation > 1e-9 AND spread > 1e-12 * abs(loss)
          THEN reduce(sum = 0.0, x IN pairs | sum + (x.share - share) * (x.loss - loss))
               / ((runs - 1) * deviation * spread)
     END AS correlation
WITH *, CASE WHEN runs > 3 AND abs(correlation) < 1 - 1e-9
             THEN log((1 + correlation) / (1 - correlation)) END AS twice_z,
     CASE WHEN runs > 3 THEN 2 * 1.959964 / sqrt(runs - 3) END AS width
RETURN component, runs, correlation, 1 - 2 / (exp(twice_z - width) + 1) AS low,
       1 - 2 / (exp(twice_z + width) + 1) AS high, share, deviation, loss
ORDER BY round(coalesce(abs(correlation), -1.0), 9) DESC, component
LIMIT $limit
