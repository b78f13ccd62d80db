// question = "Do runs that differ only by their seed agree on which components carry most?"
// group = "many runs"
// about = "Runs with equal workload and equal hyperparameters but for the seed are one group; groups of fewer runs than `least` are left out. Each run counts with its last traced epoch. Ranks go by share, 1 for the largest."
//
// [parameters]
// experiment = { type = "text", default_from = "experiment-names.experiment", complete_from = "experiment-names.experiment", about = "Name of the experiment; if left out, that of the newest run." }
// workload = { type = "text", optional = true, complete_from = "workload-names.workload", about = "Only runs of this workload." }
// seed = { type = "text", default = "seed", complete_from = "hyperparameter-names.hyperparameter", about = "Name of the hyperparameter that is the seed." }
// least = { type = "int", default = 2, min = 1, about = "Runs that a group must have." }
// mode = { type = "text", default = "greedy", choices = ["greedy", "maxprod"], about = "How traces choose." }
// batch = { type = "text", default = "training", choices = ["training", "probe"], about = "Batch that was traced." }
// limit = { type = "int", default = 20, min = 1, about = "Components a group at most." }
//
// [columns]
// workload = { type = "text", about = "Workload of the group." }
// settings = { type = "texts", about = "Hyperparameters that its runs share, as name=value." }
// rank = { type = "int", unit = "rank", about = "Rank by the mean share." }
// component = { type = "text", about = "Path of the component; what its parts carry counts for it too." }
// runs = { type = "int", unit = "count", about = "Runs of the group that have it." }
// share = { type = "float", unit = "fraction", about = "Mean over the runs of the mass of the traces that cross it over the mass of all traces." }
// deviation = { type = "float", unit = "fraction", about = "Standard deviation of the share over the runs." }
// error = { type = "float", unit = "fraction", about = "Standard error of the mean share: deviation over the root of the number of runs.", null = "there is a single run" }
// interval = { type = "float", unit = "fraction", about = "Half the width of the 95% interval of the mean share (Student's t).", null = "there is a single run" }
// best_rank = { type = "int", unit = "rank", about = "Its best rank in any of the runs." }
// worst_rank = { type = "int", unit = "rank", about = "Its worst rank." }
// same_rank = { type = "float", unit = "fraction", about = "The part of the runs in which it has the rank of this row." }
//
// [example]
// workload = "char-lstm"
// settings = ["hidden=64", "lr=0.002"]
// rank = 1
// component = "lstm.l0.carry"
// runs = 5
// share = 0.61
// deviation = 0.04
// error = 0.018
// interval = 0.05
// best_rank = 1
// worst_rank = 2
// same_rank = 0.8
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
WITH r, component, CASE WHEN total > 0 THEN mass / total ELSE 0.0 END AS share
ORDER BY round(share, 12) DESC, component
WITH r, collect({component: component, share: share}) AS line
WITH r, line, COLLECT {
  UNWIND keys(r) AS k
  WITH k WHERE k STARTS WITH 'param_' AND k <> 'param_' + $seed
  RETURN substring(k, 6) + '=' + toString(r[k]) AS setting ORDER BY setting
} AS settings
UNWIND range(0, size(line) - 1) AS i
WITH r.workload AS workload, settings, line[i].component AS component, line[i].share AS share, i + 1 AS place
WITH workload, settings, component, count(*) AS runs, avg(share) AS share, stDev(share) AS deviation,
     collect(place) AS places, min(place) AS best_rank, max(place) AS worst_rank
WHERE runs >= $least
ORDER BY round(share, 12) DESC, component
WITH workload, settings, collect({component: component, runs: runs, share: share, deviation: deviation, places: places,
                                  best_rank: best_rank, worst_rank: worst_rank})[..$limit] AS rows
UNWIND range(1, size(rows)) AS rank
WITH workload, settings, rank, rows[rank - 1] AS x
// Quantiles of Student's t for 97.5% at 1 to 30 degrees of freedom; beyond, a good approximation.
WITH workload, settings, rank, x, x.runs AS runs, x.deviation AS deviation,
     [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131,
      2.12, 2.11, 2.101, 2.093, 2.086, 2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048, 2.045,
      2.042] AS quantiles
RETURN workload, settings, rank, x.component AS component, runs, x.share AS share, deviation,
       CASE WHEN runs > 1 THEN deviation / sqrt(runs) END AS error,
       CASE WHEN runs > 1
            THEN coalesce(quantiles[runs - 2], 1.96 + 2.5 / (runs - 1)) * deviation / sqrt(runs) END AS interval,
       x.best_rank AS best_rank, x.worst_rank AS worst_rank,
       toFloat(size([place IN x.places WHERE place = rank])) / runs AS same_rank
ORDER BY workload, settings, rank
