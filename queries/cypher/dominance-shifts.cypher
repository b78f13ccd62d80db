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
// Arrays are read once each, and lists of lists made of them: so many epochs are in them.
WITH r, epoch, CASE WHEN steps > 0 THEN losses / steps END AS loss, x.components AS names, x.shares AS shares,
     CASE $measure WHEN 'share' THEN x.shares WHEN 'foreign_share' THEN x.foreign_shares ELSE x.won END AS parts,
     CASE $measure WHEN 'win_rate' THEN x.contested END AS wholes
ORDER BY epoch
WITH r, epoch, loss, names, shares,
     CASE WHEN wholes IS NULL THEN parts
          ELSE [i IN range(0, size(names) - 1) | CASE WHEN wholes[i] > 0 THEN toFloat(parts[i]) / wholes[i] END]
     END AS values
WITH r, collect([epoch, loss, names, shares, values]) AS line
// What all cross at every epoch tells nothing. It is few components of many, so these are looked for, not the others.
WITH r, line, [at IN line | [i IN range(0, size(at[2]) - 1) WHERE NOT at[3][i] < 1 - 1e-9 | at[2][i]]] AS full
WITH r, line, reduce(known = [], names IN full | known + [name IN names WHERE NOT name IN known]) AS some
WITH r, line,
     [name IN some
      WHERE none(at IN line WHERE any(i IN range(0, size(at[2]) - 1) WHERE at[2][i] = name AND at[3][i] < 1 - 1e-9))]
     AS always
WITH r,
     [at IN line |
      [at[0], at[1],
       [i IN range(0, size(at[2]) - 1) WHERE at[4][i] IS NOT NULL AND NOT at[2][i] IN always
        | [at[2][i], at[4][i]]]]] AS line
// Names are in order, so that of equal values the first one leads; what differs by less is rounding.
WITH r,
     [at IN line WHERE size(at[2]) > 0 |
      [at[0], at[1], at[2],
       reduce(best = at[2][0], x IN at[2] | CASE WHEN x[1] > best[1] + 5e-13 THEN x ELSE best END)]] AS line
UNWIND range(1, size(line) - 1) AS i
WITH r, line[i] AS at, line[i - 1][3][0] AS before
WHERE at[3][0] <> before
RETURN r.id AS run, at[0] AS epoch, before, at[3][0] AS after, at[3][1] AS value,
       at[3][1] - coalesce([x IN at[2] WHERE x[0] = before | x[1]][0], 0.0) AS lead, at[1] AS loss
ORDER BY run, epoch
LIMIT $limit
