// question = "Where traces could enter a component or pass by, how often did they enter it, epoch by epoch?"
// group = "one run"
// about = "A component without such forks is on every way or on none, and is left out."
//
// [parameters]
// run = { type = "text", default_from = "run-ids.run", complete_from = "run-ids.run", about = "Id of the run; if left out, the newest one that has traced steps." }
// mode = { type = "text", default_from = "traced-modes.mode", complete_from = "traced-modes.mode", about = "How traces choose; if left out, greedy where the run has it." }
// batch = { type = "text", default_from = "traced-modes.batch", complete_from = "traced-modes.batch", about = "Batch that was traced, training or probe; if left out, training where the run has it." }
// epoch = { type = "int", min = 0, optional = true, complete_from = "epochs.epoch", about = "Only this epoch." }
// component = { type = "text", optional = true, complete_from = "component-names.component", about = "Only this component." }
// limit = { type = "int", default = 1000, min = 1, about = "Rows at most." }
//
// [columns]
// epoch = { type = "int", unit = "epoch", about = "Number of the pass over the data." }
// component = { type = "text", about = "Path of the component." }
// role = { type = "text", about = "What the user said it is for.", null = "the user said nothing" }
// contested = { type = "int", unit = "forks times traces", about = "Departures of traces from a vertex that had one way with weight into the component and one past it." }
// won = { type = "int", unit = "forks times traces", about = "Those of them that went into it." }
// win_rate = { type = "float", unit = "fraction", about = "won over contested." }
// share = { type = "float", unit = "fraction", about = "Mass of the traces that cross it over the mass of all traces." }
// steps = { type = "int", unit = "count", about = "Traced steps of the epoch." }
//
// [example]
// epoch = 0
// component = "layers.3.carry"
// role = "skip"
// contested = 118211
// won = 108754
// win_rate = 0.92
// share = 0.81
// steps = 20
MATCH (:Run {id: $run})-[e:EPOCH_SHARE]->(c)
// Without the label of c: with it, the planner goes through all components of the store.
WHERE e.mode = $mode AND e.batch = $batch AND ($epoch IS NULL OR e.epoch = $epoch)
  AND ($component IS NULL OR c.path = $component)
WITH e.epoch AS epoch, c.path AS component, min(c.role) AS role, sum(e.contested) AS contested, sum(e.won) AS won,
     sum(e.mass) AS mass, sum(e.total) AS total, sum(e.steps) AS steps
WHERE contested > 0
RETURN epoch, component, role, contested, won, toFloat(won) / contested AS win_rate,
       CASE WHEN total > 0 THEN mass / total ELSE 0.0 END AS share, steps
ORDER BY epoch, contested DESC, component
LIMIT $limit
