// question = "Which ways between the components did the gradient take, step by step?"
// group = "one run"
// about = "Operator edges that lead from one component to another, added up by component. Ways inside one component, and from constants, are left out."
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
// source = { type = "text", about = "Component whose operators or parameters are read.", null = "they belong to none" }
// target = { type = "text", about = "Component whose operators read them.", null = "they belong to none, like a loss outside of the model" }
// share = { type = "float", unit = "fraction", about = "mass over the mass of all traces; above 1 where traces go this way several times." }
// mass = { type = "float", unit = "gradient", about = "Sum of |gradient| of the parameter scalars whose traces cross it, once for each crossing." }
// traffic = { type = "int", unit = "traces", about = "Crossings by traces." }
// edges = { type = "int", unit = "count", about = "Operator edges that it stands for." }
//
// [example]
// step = 590
// epoch = 2
// source = "lstm.l0.hidden"
// target = "head"
// share = 0.63
// mass = 12.7
// traffic = 90112
// edges = 1
MATCH (s:Step)
WHERE s.run = $run AND s.step >= 0
MATCH (s)-[:HAS_TRACE]->(t:Trace {mode: $mode, batch: $batch})
WITH s, t ORDER BY s.run, s.step
WITH collect({step: s.step, epoch: s.epoch, t: t}) AS traced
WITH traced, CASE WHEN size(traced) > $points THEN $points ELSE size(traced) END AS points
UNWIND range(0, points - 1) AS i
WITH traced[CASE WHEN points < size(traced) THEN i * (size(traced) - 1) / (points - 1) ELSE i END] AS at
WITH at.step AS step, at.epoch AS epoch, at.t AS t
MATCH (t)-[:ON]->(g:Graph)
WITH g, collect({step: step, epoch: epoch, traffic: t.traffic, mass: t.mass,
                 total: reduce(sum = 0.0, m IN COLLECT { MATCH (t)-[l:LEFT]->() RETURN l.mass } | sum + m)}) AS steps
CALL (g) {
  MATCH (g)-[:HAS]->(a:Vertex)-[e:EDGE]->(b:Vertex)
  WHERE a.kind <> 'constant' AND coalesce(a.component, '') <> coalesce(b.component, '')
  RETURN a.component AS source, b.component AS target, collect(e.idx) AS edges
}
UNWIND steps AS x
WITH x.step AS step, x.epoch AS epoch, x.total AS total, x.mass AS masses, x.traffic AS counts, source, target, edges
WITH step, epoch, source, target, size(edges) AS edges, total, reduce(sum = 0.0, i IN edges | sum + masses[i]) AS mass,
     reduce(sum = 0, i IN edges | sum + counts[i]) AS traffic
RETURN step, epoch, source, target, CASE WHEN total > 0 THEN mass / total ELSE 0.0 END AS share, mass, traffic, edges
ORDER BY step, coalesce(source, ''), coalesce(target, '')
