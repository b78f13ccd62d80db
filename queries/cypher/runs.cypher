// question = "Which runs are stored, newest first, and how far did each get?"
// group = "health"
// about = "A run that was killed stays RUNNING until someone ends it or, where it was submitted, a worker goes on with it; its stored steps are whole all the same."
//
// [parameters]
// status = { type = "text", optional = true, choices = ["QUEUED", "RUNNING", "FINISHED", "INTERRUPTED", "FAILED"], about = "Only runs with this status." }
// workload = { type = "text", optional = true, complete_from = "workload-names.workload", about = "Only runs of this workload." }
// experiment = { type = "text", optional = true, complete_from = "experiment-names.experiment", about = "Only runs of this experiment." }
// limit = { type = "int", default = 50, min = 1, max = 10000, about = "Runs at most." }
//
// [columns]
// run = { type = "text", about = "Id of the run." }
// workload = { type = "text", about = "Workload that was trained." }
// experiment = { type = "text", about = "Experiment that the run belongs to." }
// status = { type = "text", about = "QUEUED, RUNNING, FINISHED, INTERRUPTED or FAILED." }
// started = { type = "datetime", about = "When the run was announced." }
// steps = { type = "int", unit = "count", about = "Traced steps that are stored." }
// last_step = { type = "int", unit = "step", about = "The last one of them.", null = "no step is stored yet" }
// epoch = { type = "int", unit = "epoch", about = "Epoch of the last traced step.", null = "no step is stored yet" }
// loss = { type = "float", unit = "loss", about = "Loss of the last traced step.", null = "no step is stored yet" }
// parameters = { type = "texts", about = "Hyperparameters as name=value, by name; empty ones are left out." }
// reason = { type = "text", about = "Why it ended as it did.", null = "nobody gave a reason" }
//
// [example]
// run = "char-lstm-20261123-231501-7f3a"
// workload = "char-lstm"
// experiment = "default"
// status = "FINISHED"
// started = 2026-11-23T23:15:01Z
// steps = 60
// last_step = 590
// epoch = 2
// loss = 2.13
// parameters = ["lr=0.002", "seed=0"]
MATCH (r:Run)
USING INDEX r:Run(started)
WHERE r.started > datetime({year: 1})
MATCH (r)-[:IN]->(x:Experiment)
WHERE ($status IS NULL OR r.status = $status)
  AND ($workload IS NULL OR r.workload = $workload)
  AND ($experiment IS NULL OR x.name = $experiment)
WITH r, x ORDER BY r.started DESC, r.id DESC LIMIT $limit
OPTIONAL MATCH (s:Step {run: r.id, step: r.last_step})
RETURN r.id AS run, r.workload AS workload, x.name AS experiment, r.status AS status, r.started AS started,
       coalesce(r.steps, 0) AS steps, s.step AS last_step, s.epoch AS epoch, s.loss AS loss,
       COLLECT {
         UNWIND keys(r) AS k
         WITH k WHERE k STARTS WITH 'param_'
         RETURN substring(k, 6) + '=' + toString(r[k]) AS parameter ORDER BY parameter
       } AS parameters,
       r.reason AS reason
ORDER BY started DESC, run DESC
