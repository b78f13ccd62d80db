// question = "How did the shares and win rates of all components change over the steps?"
// group = "one run"
// about = "At up to `points` steps; component-over-time has one component at every step."
//
// [parameters]
// run = { type = "text", default_from = "run-ids.run", complete_from = "run-ids.run", about = "Id of the run; if left out, the newest one that has traced steps." }
// mode = { type = "text", default_from = "traced-modes.mode", complete_from = "traced-modes.mode", about = "How traces choose; if left out, greedy where the run has it." }
// batch = { type = "text", default_from = "traced-modes.batch", complete_from = "traced-modes.batch", about = "Batch that was traced, training or probe; if left out, training where the run has it." }
// points = { type = "int", default = 60, min = 2, about = "Steps at most; of more, as many are taken at even distances, the first and the last among them." }
//
// [columns]
// step = { type = "int", unit = "step", about = "Number of the optimizer step." }
// epoch = { type = "int", unit = "epoch", about = "Number of the pass over the data." }
// loss = { type = "float", unit = "loss", about = "Loss of the traced batch." }
// component = { type = "text", about = "Path of the component; what its parts carry counts for it too. <model> is the model itself." }
// share = { type = "float", unit = "fraction", about = "Mass of the traces that cross it over the mass of all traces." }
// foreign_share = { type = "float", unit = "fraction", about = "The part of the share that comes from parameters outside the component." }
// win_rate = { type = "float", unit = "fraction", about = "Of the forks where traces could enter it or pass by, how many they took into it.", null = "there was no such fork" }
//
// [example]
// step = 590
// epoch = 2
// loss = 2.13
// component = "lstm.l0.carry"
// share = 0.81
// foreign_share = 0.74
// win_rate = 0.92
MATCH (s:Step)
WHERE s.run = $run AND s.step >= 0
MATCH (s)-[:HAS_TRACE]->(t:Trace {mode: $mode, batch: $batch})
WITH s, t ORDER BY s.run, s.step
WITH collect({step: s.step, epoch: s.epoch, t: t}) AS traced
WITH traced, CASE WHEN size(traced) > $points THEN $points ELSE size(traced) END AS points
UNWIND range(0, points - 1) AS i
WITH traced[CASE WHEN points < size(traced) THEN i * (size(traced) - 1) / (points - 1) ELSE i END] AS at
WITH at.step AS step, at.epoch AS epoch, at.t AS t
MATCH (t)-[x:CARRIES]->(c:Component)
RETURN step, epoch, t.loss AS loss, c.path AS component, x.share AS share,
       CASE WHEN x.mass > 0 THEN x.foreign / x.mass * x.share ELSE 0.0 END AS foreign_share,
       CASE WHEN x.contested > 0 THEN toFloat(x.won) / x.contested END AS win_rate
ORDER BY step, component
