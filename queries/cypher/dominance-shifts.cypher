// question = "In which epochs of which runs did another component take the lead?"
// group = "many runs"
// about = "The leading component is the one with the largest share among innermost ones (those without parts); components that all traces of a run cross in every epoch say nothing and are left out."
//
// [parameters]
// experiment = { type = "text", default_from = "experiment-names.experiment", complete_from = "experiment-names.experiment", about = "Name of the experiment; if left out, that of the newest run." }
// workload = { type = "text", optional = true, complete_from = "workload-names.workload", about = "Only runs of this workload." }
// measure = { type = "text", default = "share", choices = ["share", "foreign_share", "win_rate"], about = "By what the leading component is found." }
// runs = { type = "int", default = 30, min = 1, about = "Runs at most, the newest ones; the time it takes grows with runs, epochs and components." }
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
WITH collect(r) AS runs
CALL (runs) {
  UNWIND runs AS r
  MATCH (r)-[:HAS_EPOCH]->(:Epoch)-[:ON]->(g:Graph)
  WITH DISTINCT g.architecture AS hash
  MATCH (:Architecture {hash: hash})-[:OFFERS]->(c:Component)
  WHERE c.depth > 0 AND NOT EXISTS { (c)<-[:PART_OF]-() }
  RETURN collect(c) AS innermost
}
UNWIND runs AS r
MATCH (r)-[e:EPOCH_SHARE]->(c)
WHERE c IN innermost AND e.mode = $mode AND e.batch = $batch
// Only what is asked for is read: properties of so many sums are what this question costs.
WITH r, c.path AS component, e.epoch AS epoch, sum(e.mass) AS mass, sum(e.total) AS total,
     sum(CASE $measure WHEN 'foreign_share' THEN e.foreign WHEN 'win_rate' THEN e.won END) AS part,
     sum(CASE $measure WHEN 'win_rate' THEN e.contested END) AS whole
WITH r, component,
     collect({epoch: epoch, share: CASE WHEN total > 0 THEN mass / total ELSE 0.0 END,
              value: CASE $measure WHEN 'share' THEN CASE WHEN total > 0 THEN mass / total ELSE 0.0 END
                     WHEN 'foreign_share' THEN CASE WHEN total > 0 THEN part / total ELSE 0.0 END
                     ELSE CASE WHEN whole > 0 THEN toFloat(part) / whole END END}) AS line
WHERE any(x IN line WHERE x.share < 1 - 1e-9)
UNWIND line AS x
WITH r, component, x.epoch AS epoch, x.value AS value
WHERE value IS NOT NULL
ORDER BY epoch, round(value, 12) DESC, component
WITH r, epoch, collect({component: component, value: value}) AS ranked
ORDER BY epoch
WITH r, collect({epoch: epoch, ranked: ranked}) AS line
UNWIND range(1, size(line) - 1) AS i
WITH r, line[i].epoch AS epoch, line[i - 1].ranked[0].component AS before, line[i].ranked AS ranked
WHERE ranked[0].component <> before
WITH r, epoch, before, ranked[0] AS leader,
     coalesce([x IN ranked WHERE x.component = before][0].value, 0.0) AS old
CALL (r, epoch) {
  MATCH (x:Epoch)
  WHERE x.run = r.id AND x.epoch = epoch AND x.mode = $mode AND x.batch = $batch
  WITH sum(x.finite_losses) AS steps,
       sum(CASE WHEN x.finite_losses > 0 THEN x.loss * x.finite_losses ELSE 0.0 END) AS losses
  RETURN CASE WHEN steps > 0 THEN losses / steps END AS loss
}
RETURN r.id AS run, epoch, before, leader.component AS after, leader.value AS value, leader.value - old AS lead, loss
ORDER BY run, epoch
LIMIT $limit
