// question = "Which path does the strongest gradient of a parameter take, step by step, and when did it change?"
// group = "one run"
// about = "Operators are compared by name, so that a smaller last batch is no change of path. The strongest gradient is that of the scalar with the largest |gradient|."
//
// [parameters]
// run = { type = "text", default_from = "run-ids.run", complete_from = "run-ids.run", about = "Id of the run; if left out, the newest one that has traced steps." }
// parameter = { type = "text", required = true, complete_from = "parameter-names.parameter", about = "Name of the parameter tensor." }
// mode = { type = "text", default_from = "traced-modes.mode", complete_from = "traced-modes.mode", about = "How traces choose; if left out, greedy where the run has it." }
// batch = { type = "text", default_from = "traced-modes.batch", complete_from = "traced-modes.batch", about = "Batch that was traced, training or probe; if left out, training where the run has it." }
// changes_only = { type = "bool", default = false, about = "Only the first step and those at which the path changed." }
//
// [columns]
// step = { type = "int", unit = "step", about = "Number of the optimizer step." }
// epoch = { type = "int", unit = "epoch", about = "Number of the pass over the data." }
// changed = { type = "bool", about = "Whether it crosses other operators than at the traced step before.", null = "it is the first traced step" }
// route = { type = "text", about = "Components that the path crosses, with repeats collapsed.", null = "the parameter is dead at this step" }
// length = { type = "int", unit = "operators", about = "Operators that the path crosses." }
// share = { type = "float", unit = "fraction", about = "|gradient| of the scalar where the path starts over that of the whole tensor.", null = "the parameter is dead at this step" }
// mass = { type = "float", unit = "gradient", about = "|gradient| of that scalar.", null = "the parameter is dead at this step" }
// margin = { type = "float", unit = "ratio", about = "Least ratio of winner to runner-up on the way; infinite where there was never a second candidate.", null = "the parameter is dead at this step" }
// concentration = { type = "float", unit = "ratio", about = "|product of the weights on the path| over |gradient| of the scalar.", null = "the parameter is dead at this step" }
// scalar = { type = "int", unit = "flat index", about = "The scalar of the parameter where the path starts.", null = "the parameter is dead at this step" }
// example = { type = "int", unit = "index", about = "Position in the batch that the path goes through.", null = "the tracer cannot tell, or the parameter is dead" }
// time = { type = "int", unit = "index", about = "First time step that the path goes through.", null = "nothing repeats, or the parameter is dead" }
// path = { type = "text", about = "Key of the path in the store.", null = "the parameter is dead at this step" }
// operators = { type = "texts", about = "Names of the operators on the path, from the first one to the loss; [] if the parameter is dead.", null = "they are those of the row before" }
//
// [example]
// step = 590
// epoch = 2
// changed = true
// route = "(lstm.l0.carry lstm.l0.cell)+ lstm.l0.hidden head"
// length = 66
// share = 0.004
// mass = 0.031
// margin = 1.02
// concentration = 0.33
// scalar = 41022
// example = 3
// time = 0
// path = "4bcbbf41ecbd4e0f3bb6ee34c7a3aa6e"
// operators = ["lstm.l0.cell/Mul", "lstm.l0.cell/Add", "head/Addmm", "NllLoss"]
MATCH (x:Epoch)
WHERE x.run = $run AND x.epoch >= 0 AND x.mode = $mode AND x.batch = $batch
// First the graphs that have the parameter: asking each step for it would read all of the step's parameters.
MATCH (x)-[:ON]->(g:Graph)
WITH DISTINCT g
WHERE EXISTS { (g)-[:HAS]->(:Parameter {name: $parameter}) }
WITH collect(g) AS graphs
MATCH (s:Step)
WHERE s.run = $run AND s.step >= 0
MATCH (s)-[:HAS_TRACE]->(t:Trace {mode: $mode, batch: $batch})-[:ON]->(g:Graph)
WHERE g IN graphs
OPTIONAL MATCH (t)-[d:DOMINANT {parameter: $parameter}]->(p:Path)
WITH p, collect({step: s.step, epoch: s.epoch, d: d}) AS steps
OPTIONAL MATCH (p)-[:TAKES]->(r:Route)
OPTIONAL MATCH (p)-[:ON]->(g:Graph)
WITH g, collect({p: p, r: r, steps: steps}) AS paths
CALL (g) {
  OPTIONAL MATCH (g)-[:HAS]->(v:Vertex)
  WITH v ORDER BY v.idx
  RETURN collect(v.name) AS names
}
UNWIND paths AS x
WITH x.p AS p, x.r AS r, x.steps AS steps, [idx IN coalesce(x.p.vertices, []) | names[idx]] AS operators
UNWIND steps AS here
WITH here, p, r, operators ORDER BY here.step
WITH collect({step: here.step, epoch: here.epoch, d: here.d, path: p.hash, route: r.text, operators: operators}) AS rows
UNWIND range(0, size(rows) - 1) AS i
WITH rows[i] AS row, CASE WHEN i > 0 THEN rows[i].operators <> rows[i - 1].operators END AS changed
WHERE NOT $changes_only OR coalesce(changed, true)
RETURN row.step AS step, row.epoch AS epoch, changed, row.route AS route, size(row.operators) AS length,
       row.d.share AS share, row.d.mass AS mass, row.d.margin AS margin, row.d.concentration AS concentration,
       row.d.scalar AS scalar, row.d.example AS example, row.d.time AS time, row.path AS path,
       CASE WHEN coalesce(changed, true) THEN row.operators END AS operators
ORDER BY step

// === subgraph ===
MATCH (:Run {id: $run})-[f:FOLLOWS {mode: $mode, batch: $batch, parameter: $parameter}]->(p:Path)
WITH p ORDER BY f.steps DESC, p.hash LIMIT 20
MATCH (p)-[:ON]->(g:Graph)
CALL (g) {
  MATCH (g)-[:HAS]->(v:Vertex)
  WITH v ORDER BY v.idx
  RETURN collect(v) AS vertices
}
UNWIND [v IN vertices WHERE v.kind = 'parameter' AND v.name = $parameter] AS start
WITH start, [idx IN p.vertices | vertices[idx]] AS line
UNWIND range(0, size(line) - 1) AS i
WITH CASE WHEN i = 0 THEN start ELSE line[i - 1] END AS a, line[i] AS b
MATCH (a)-[e:EDGE]->(b)
RETURN DISTINCT a, e, b
