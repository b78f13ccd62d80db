// question = "Which workloads were trained?"
// group = "lookup"
//
// [parameters]
// experiment = { type = "text", optional = true, about = "Only runs of this experiment." }
//
// [columns]
// workload = { type = "text", about = "Name of the workload." }
// runs = { type = "int", unit = "count", about = "Runs of it." }
//
// [example]
// workload = "char-lstm"
// runs = 12
MATCH (r:Run)
USING INDEX r:Run(started)
WHERE r.started > datetime({year: 1})
MATCH (r)-[:IN]->(x:Experiment)
WHERE $experiment IS NULL OR x.name = $experiment
RETURN r.workload AS workload, count(*) AS runs
ORDER BY workload
