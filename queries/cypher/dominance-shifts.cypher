// question = "In which epochs of which runs did another component take the lead?"
// group = "many runs"
// about = "The leading component is the one with the largest share among innermost ones (those without parts); components that all traces of a run cross in every epoch say nothing and are left out."
//
// [parameters]
// experiment = { type = "text", default_from = "experiment-names.experiment", complete_from = "experiment-names.experiment", about = "Name of the experiment; if left out, that of the newest run." }
// workload = { type = "text", optional = true, complete_from = "workload-names.workload", about = "Only runs of this workload." }
// measure = { type = "text", default = "share", choices = ["share", "foreign_share", "win_rate"], about = "By what the leading component is found." }
// runs = { type = "int", default = 100, min = 1, about = "Runs at most, the newest ones; the time it takes grows with runs, epochs and components." }
// mode = { type = "text", default = "greedy", choices = ["greedy", "maxprod"], about = "How traces choose." }
// batch = { type = "text", default = "training", choices = ["training", "probe"], about = "Batch that was traced." }
// limit = { type = "int", default = 100, min = 1, about = "Rows at most." }
//
// [columns]
// run = { type = "text", about = "Id of the run." }
// epoch = { type = "int", unit = "epoch", about = "The first epoch in which the new one led." }
// before = { type = "text", about = "Component that led in the traced epoch before." }
// after = { type = "text", about = "Component that leads now." }
// value = { type = "float", unit = "fraction", about = "Its measure in this epoch." }
// lead = { type = "float", unit = "fraction", about = "How much that is above the old leader's measure in this epoch; a small lead may be noise." }
// loss = { type = "float", unit = "loss", about = "Mean loss of the epoch.", null = "no loss is finite" }
//
// [example]
// run = "highway-20261123-231501-7f3a"
// epoch = 4
// before = "layers.3.carry"
// after = "layers.3.transform"
// value = 0.61
// lead = 0.18
// loss = 1.92
MATCH (:Experiment {name: $experiment})<-[:IN]-(r:Run)
WHERE $workload IS NULL OR r.workload = $workload
WITH r ORDER BY r.started DESC, r.id DESC LIMIT $runs
MATCH (x:Epoch)
USING INDEX x:Epoch(run, epoch)
WHERE x.run = r.id AND x.epoch >= 0 AND x.mode = $mode AND x.batch = $batch
// The graphs of one epoch carry the same arrays, and each its own losses.
WITH r, x.epoch AS epoch, head(collect(x)) AS x, sum(x.finite_losses) AS steps,
     sum(CASE WHEN x.finite_losses > 0 THEN x.loss * x.finite_losses ELSE 0.0 END) AS losses
WITH r, epoch, CASE WHEN steps > 0 THEN losses / steps END AS loss, x.components AS names, x.shares AS shares,
     CASE $measure WHEN 'share' THEN x.shares WHEN 'foreign_share' THEN x.foreign_shares
          ELSE [i IN range(0, size(x.won) - 1) | CASE WHEN x.contested[i] > 0 THEN toFloat(x.won[i]) / x.contested[i] END]
     END AS values
ORDER BY epoch
WITH r, collect({epoch: epoch, loss: loss, names: names, shares: shares, values: values}) AS line
WITH r, line,
     reduce(names = [], at IN line |
       names + [i IN range(0, size(at.names) - 1) WHERE at.shares[i] < 1 - 1e-9 AND NOT at.names[i] IN names
                | at.names[i]]) AS telling
WITH r,
     [at IN line |
      {epoch: at.epoch, loss: at.loss,
       ranked: [i IN range(0, size(at.names) - 1) WHERE at.names[i] IN telling AND at.values[i] IS NOT NULL
                | [at.names[i], at.values[i], round(at.values[i], 12)]]}] AS line
// Names are in order, so that of equal values the first one leads.
WITH r,
     [at IN line WHERE size(at.ranked) > 0 |
      {epoch: at.epoch, loss: at.loss, ranked: at.ranked,
       leader: reduce(best = at.ranked[0], x IN at.ranked | CASE WHEN x[2] > best[2] THEN x ELSE best END)}] AS line
UNWIND range(1, size(line) - 1) AS i
WITH r, line[i] AS at, line[i - 1].leader[0] AS before
WHERE at.leader[0] <> before
RETURN r.id AS run, at.epoch AS epoch, before, at.leader[0] AS after, at.leader[1] AS value,
       at.leader[1] - coalesce([x IN at.ranked WHERE x[0] = before | x[1]][0], 0.0) AS lead, at.loss AS loss
ORDER BY run, epoch
LIMIT $limit
