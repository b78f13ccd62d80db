// question = "Which hyperparameters do the runs of an experiment have, and how many values of each?"
// group = "lookup"
// about = "Those with most values come first."
//
// [parameters]
// experiment = { type = "text", default_from = "experiment-names.experiment", complete_from = "experiment-names.experiment", about = "Name of the experiment; if left out, that of the newest run." }
// workload = { type = "text", optional = true, complete_from = "workload-names.workload", about = "Only runs of this workload." }
//
// [columns]
// hyperparameter = { type = "text", about = "Name of the hyperparameter." }
// count = { type = "int", unit = "count", about = "How many values it has." }
// runs = { type = "int", unit = "count", about = "Runs that have it." }
//
// [example]
// hyperparameter = "lr"
// count = 4
// runs = 12
MATCH (:Experiment {name: $experiment})<-[:IN]-(r:Run)
WHERE $workload IS NULL OR r.workload = $workload
UNWIND keys(r) AS k
WITH r, k WHERE k STARTS WITH 'param_'
WITH substring(k, 6) AS hyperparameter, count(DISTINCT r[k]) AS count, count(*) AS runs
RETURN hyperparameter, count, runs
ORDER BY count DESC, hyperparameter
