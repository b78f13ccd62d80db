// question = "How alike are the runs of an experiment in how often components win at forks?"
// group = "many runs"
// about = "Each run counts with its last traced epoch. Components without forks where traces could enter them or pass by are left out."
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
// role = { type = "text", about = "What the user said it is for.", null = "the user said nothing" }
// runs = { type = "int", unit = "count", about = "Runs in which it has such forks." }
// win_rate = { type = "float", unit = "fraction", about = "Mean over these runs of the part of such forks at which traces went into it." }
// deviation = { type = "float", unit = "fraction", about = "Standard deviation of the win rate over these runs; 0 for a single one." }
// interval = { type = "float", unit = "fraction", about = "Half the width of the 95% interval of the mean (Student's t).", null = "there is a single run" }
// least = { type = "float", unit = "fraction", about = "The smallest win rate." }
// greatest = { type = "float", unit = "fraction", about = "The greatest win rate." }
// contested = { type = "int", unit = "forks times traces", about = "Departures of traces from such forks, over these runs." }
//
// [example]
// component = "layers.3.carry"
// role = "skip"
// runs = 5
// win_rate = 0.92
// deviation = 0.03
// interval = 0.04
// least = 0.87
// greatest = 0.95
// contested = 591055
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
WHERE e.run IN runs AND e.epoch = last AND e.mode = $mode AND e.batch = $batch AND c.depth > 0 AND e.contested > 0
WITH r, c.path AS component, min(c.role) AS role, sum(e.contested) AS contested, sum(e.won) AS won
WITH component, role, contested, toFloat(won) / contested AS rate
WITH component, min(role) AS role, count(*) AS runs, avg(rate) AS win_rate, stDev(rate) AS deviation,
     min(rate) AS least, max(rate) AS greatest, sum(contested) AS contested,
     // Quantiles of Student's t for 97.5% at 1 to 30 degrees of freedom; beyond, a good approximation.
     [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131,
      2.12, 2.11, 2.101, 2.093, 2.086, 2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048, 2.045,
      2.042] AS quantiles
RETURN component, role, runs, win_rate, deviation,
       CASE WHEN runs > 1
            THEN coalesce(quantiles[runs - 2], 1.96 + 2.5 / (runs - 1)) * deviation / sqrt(runs) END AS interval,
       least, greatest, contested
ORDER BY round(win_rate, 12) DESC, component
LIMIT $limit
