// question = "How did the share of one component change over the steps?"
// group = "one run"
//
// [parameters]
// run = { type = "text", default_from = "run-ids.run", complete_from = "run-ids.run", about = "Id of the run; if left out, the newest one that has traced steps." }
// component = { type = "text", required = true, complete_from = "component-names.component", about = "Path of the component." }
// mode = { type = "text", default_from = "traced-modes.mode", complete_from = "traced-modes.mode", about = "How traces choose; if left out, greedy where the run has it." }
// batch = { type = "text", default_from = "traced-modes.batch", complete_from = "traced-modes.batch", about = "Batch that was traced, training or probe; if left out, training where the run has it." }
//
// [columns]
// step = { type = "int", unit = "step", about = "Number of the optimizer step." }
// epoch = { type = "int", unit = "epoch", about = "Number of the pass over the data." }
// loss = { type = "float", unit = "loss", about = "Loss of the traced batch." }
// share = { type = "float", unit = "fraction", about = "Mass of the traces that cross it over the mass of all traces." }
// foreign_share = { type = "float", unit = "fraction", about = "The part of the share that comes from parameters outside the component." }
// win_rate = { type = "float", unit = "fraction", about = "Of the forks where traces could enter it or pass by, how many they took into it.", null = "there was no such fork" }
// contested = { type = "int", unit = "forks times traces", about = "Departures of traces from such forks." }
// visits = { type = "float", unit = "visits a trace", about = "How often a trace enters it, in the mean." }
// traffic = { type = "int", unit = "traces", about = "Traces that cross it." }
// mass = { type = "float", unit = "gradient", about = "Sum of |gradient| of the parameter scalars whose traces cross it." }
// flow = { type = "float", unit = "gradient", about = "Sum of |w·g| over the operator edges that enter it." }
//
// [example]
// step = 590
// epoch = 2
// loss = 2.13
// share = 0.81
// foreign_share = 0.74
// win_rate = 0.92
// contested = 118211
// visits = 3.4
// traffic = 90112
// mass = 12.7
// flow = 31.9
MATCH (k:Component {path: $component})
// One component of each architecture, found first: a trace then tells its row without reading the others' ends.
WITH collect(k) AS named
MATCH (s:Step)
WHERE s.run = $run AND s.step >= 0
MATCH (s)-[:HAS_TRACE]->(t:Trace {mode: $mode, batch: $batch})-[c:CARRIES]->(k)
WHERE k IN named
RETURN s.step AS step, s.epoch AS epoch, t.loss AS loss, c.share AS share,
       CASE WHEN c.mass > 0 THEN c.foreign / c.mass * c.share ELSE 0.0 END AS foreign_share,
       CASE WHEN c.contested > 0 THEN toFloat(c.won) / c.contested END AS win_rate,
       c.contested AS contested, c.visits AS visits, c.traffic AS traffic, c.mass AS mass, c.flow AS flow
ORDER BY step
