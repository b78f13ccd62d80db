// question = "In which runs did what a component carries vanish, or take over, and when?"
// group = "many runs"
// about = "Compared with the first traced epoch of the run. Runs in which its share is below `least_share` both at the start and then are left out."
//
// [parameters]
// experiment = { type = "text", default_from = "experiment-names.experiment", complete_from = "experiment-names.experiment", about = "Name of the experiment; if left out, that of the newest run." }
// workload = { type = "text", optional = true, complete_from = "workload-names.workload", about = "Only runs of this workload." }
// component = { type = "text", required = true, complete_from = "component-names.component", about = "Path of the component." }
// measure = { type = "text", default = "share", choices = ["share", "flow"], about = "What is compared: the share of all traces' mass, or the gradient flow into the component." }
// factor = { type = "float", default = 2.0, min = 1, about = "How many times smaller, or greater, it must have become." }
// least_share = { type = "float", default = 0.05, min = 0, max = 1, about = "Share that the component must have at the start, or then." }
// mode = { type = "text", default = "greedy", choices = ["greedy", "maxprod"], about = "How traces choose." }
// batch = { type = "text", default = "training", choices = ["training", "probe"], about = "Batch that was traced." }
// limit = { type = "int", default = 100, min = 1, about = "Rows at most." }
//
// [columns]
// run = { type = "text", about = "Id of the run." }
// component = { type = "text", about = "Path of the component; what its parts carry counts for it too." }
// change = { type = "text", about = "vanished or took over." }
// epoch = { type = "int", unit = "epoch", about = "The first epoch in which it had." }
// before = { type = "float", unit = "fraction or gradient a step", about = "The measure in the first traced epoch." }
// then = { type = "float", unit = "fraction or gradient a step", about = "The measure in that epoch." }
// last = { type = "float", unit = "fraction or gradient a step", about = "The measure in the last traced epoch." }
// last_epoch = { type = "int", unit = "epoch", about = "The last traced epoch." }
//
// [example]
// run = "highway-20261123-231501-7f3a"
// component = "layers.3.carry"
// change = "vanished"
// epoch = 4
// before = 0.81
// then = 0.39
// last = 0.12
// last_epoch = 9
MATCH (k:Component {path: $component})
// One of each architecture, found first: a run then tells its sums from the others' without reading their ends.
WITH collect(k) AS named
MATCH (:Experiment {name: $experiment})<-[:IN]-(r:Run)
WHERE $workload IS NULL OR r.workload = $workload
MATCH (r)-[e:EPOCH_SHARE]->(c)
WHERE c IN named AND e.mode = $mode AND e.batch = $batch
WITH r, e.epoch AS epoch, sum(e.mass) AS mass, sum(e.total) AS total,
     sum(CASE $measure WHEN 'flow' THEN e.flow END) AS flow, sum(CASE $measure WHEN 'flow' THEN e.steps END) AS steps
WITH r, epoch, CASE WHEN total > 0 THEN mass / total ELSE 0.0 END AS share,
     CASE WHEN steps > 0 THEN flow / steps END AS flow
WITH r, epoch, share, CASE $measure WHEN 'share' THEN share ELSE flow END AS value
ORDER BY epoch
WITH r, collect({epoch: epoch, share: share, value: value}) AS line
WITH r, line, line[0] AS start, line[-1] AS end
UNWIND ['vanished', 'took over'] AS change
WITH r, start, end, change,
     [x IN line[1..]
      WHERE (x.share >= $least_share OR start.share >= $least_share)
        AND CASE change WHEN 'vanished' THEN x.value < start.value AND x.value * $factor <= start.value
            ELSE x.value > start.value AND x.value >= start.value * $factor END][0] AS at
WHERE at IS NOT NULL
RETURN r.id AS run, $component AS component, change, at.epoch AS epoch, start.value AS before, at.value AS then,
       end.value AS last, end.epoch AS last_epoch
ORDER BY epoch, run, change
LIMIT $limit
