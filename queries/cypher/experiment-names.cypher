// question = "Which experiments are there, that of the newest run first?"
// group = "lookup"
//
// [columns]
// experiment = { type = "text", about = "Name of the experiment." }
// runs = { type = "int", unit = "count", about = "Runs that belong to it." }
// newest = { type = "datetime", about = "When the newest of them was announced." }
//
// [example]
// experiment = "default"
// runs = 12
// newest = 2026-11-23T23:15:01Z
MATCH (r:Run)
USING INDEX r:Run(started)
WHERE r.started > datetime({year: 1})
MATCH (r)-[:IN]->(x:Experiment)
WITH x.name AS experiment, count(*) AS runs, max(r.started) AS newest
RETURN experiment, runs, newest
ORDER BY newest DESC, experiment
