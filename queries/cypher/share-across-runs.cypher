// question = "How alike are the runs of an experiment in what their components carry at the end?"
// group = "many runs"
// about = "Each run counts with its last traced epoch. Runs that differ by their seed alone show here how far a share can be trusted."
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
// runs = { type = "int", unit = "count", about = "Runs that have it." }
// share = { type = "float", unit = "fraction", about = "Mean over the runs of the mass of the traces that cross it over the mass of all traces." }
// deviation = { type = "float", unit = "fraction", about = "Standard deviation of the share over the runs; 0 for a single one." }
// least = { type = "float", unit = "fraction", about = "The smallest share." }
// greatest = { type = "float", unit = "fraction", about = "The greatest share." }
//
// [example]
// component = "lstm.l0.carry"
// runs = 5
// share = 0.61
// deviation = 0.04
// least = 0.55
// greatest = 0.66
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
WITH r, c.path AS component, sum(e.mass) AS mass, sum(e.total) AS total
WITH component, CASE WHEN total > 0 THEN mass / total ELSE 0.0 END AS share
WITH component, count(*) AS runs, avg(share) AS share, stDev(share) AS deviation, min(share) AS least,
     max(share) AS greatest
RETURN component, runs, share, deviation, least, greatest
ORDER BY round(share, 12) DESC, component
LIMIT $limit
