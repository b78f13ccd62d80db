// question = "Which runs did not finish, and what is the matter with them?"
// group = "health"
// about = "Left out are finished runs and those that go on: a worker holds them, or `gradtrace run` stored a step of theirs in the last `quiet` minutes."
//
// [parameters]
// experiment = { type = "text", optional = true, complete_from = "experiment-names.experiment", about = "Only runs of this experiment." }
// workload = { type = "text", optional = true, complete_from = "workload-names.workload", about = "Only runs of this workload." }
// quiet = { type = "int", default = 10, min = 0, about = "Minutes without a stored step after which a run of `gradtrace run` counts as stopped." }
// limit = { type = "int", default = 50, min = 1, max = 10000, about = "Runs at most." }
//
// [columns]
// run = { type = "text", about = "Id of the run." }
// workload = { type = "text", about = "Workload that was trained." }
// experiment = { type = "text", about = "Experiment that the run belongs to." }
// status = { type = "text", about = "QUEUED, RUNNING, INTERRUPTED or FAILED." }
// matter = { type = "text", about = "What that means for the run, in words." }
// reason = { type = "text", about = "Why it ended, or what went wrong last.", null = "nobody gave a reason" }
// attempts = { type = "int", unit = "count", about = "Tries since the last progress." }
// steps = { type = "int", unit = "count", about = "Traced steps that are stored." }
// last_step = { type = "int", unit = "step", about = "The last one of them.", null = "no step is stored yet" }
// planned = { type = "int", unit = "count", about = "Optimizer steps that it was to make.", null = "nobody said" }
// seen = { type = "datetime", about = "When it was last written to: a step stored, ended, or announced." }
//
// [example]
// run = "char-lstm-20261123-231501-7f3a"
// workload = "char-lstm"
// experiment = "default"
// status = "RUNNING"
// matter = "its worker is gone: the lease ran out"
// reason = "out of memory"
// attempts = 2
// steps = 60
// last_step = 590
// planned = 1000
// seen = 2026-11-23T23:15:01Z
MATCH (r:Run)
USING INDEX r:Run(status)
WHERE r.status IN ['QUEUED', 'RUNNING', 'INTERRUPTED', 'FAILED'] AND ($workload IS NULL OR r.workload = $workload)
MATCH (r)-[:IN]->(x)
WHERE $experiment IS NULL OR x.name = $experiment
WITH r, x, coalesce(r.ended, r.updated, r.started) AS seen
WITH r, x, seen,
     CASE
       WHEN r.status = 'QUEUED' AND r.attempts > 0 THEN 'it waits for a worker to try it again'
       WHEN r.status = 'QUEUED' THEN 'it waits for a worker'
       WHEN r.status = 'INTERRUPTED' THEN 'it was ended before its time'
       WHEN r.status = 'FAILED' THEN 'it failed'
       WHEN r.spec IS NOT NULL AND coalesce(r.lease < datetime(), true) THEN 'its worker is gone: the lease ran out'
       WHEN r.spec IS NULL AND seen <= datetime() - duration({minutes: $quiet})
         THEN 'it is silent: its process may be gone'
     END AS matter
WHERE matter IS NOT NULL
RETURN r.id AS run, r.workload AS workload, x.name AS experiment, r.status AS status, matter,
       coalesce(r.reason, r.problem) AS reason, coalesce(r.attempts, 0) AS attempts, coalesce(r.steps, 0) AS steps,
       r.last_step AS last_step, r.planned AS planned, seen
ORDER BY seen DESC, run DESC
LIMIT $limit
