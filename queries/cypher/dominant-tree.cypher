// question = "Through which edges does most of the gradient's mass reach the loss at one step, as a tree?"
// group = "one step"
// about = "From every vertex the edge with most mass is followed. Vertices that no trace leaves are not in it."
//
// [parameters]
// run = { type = "text", default_from = "run-ids.run", complete_from = "run-ids.run", about = "Id of the run; if left out, the newest one that has traced steps." }
// mode = { type = "text", default_from = "traced-modes.mode", complete_from = "traced-modes.mode", about = "How traces choose; if left out, greedy where the run has it." }
// batch = { type = "text", default_from = "traced-modes.batch", complete_from = "traced-modes.batch", about = "Batch that was traced, training or probe; if left out, training where the run has it." }
// step = { type = "int", min = 0, default_from = "traced-steps.step", complete_from = "traced-steps.step", about = "Number of a traced step; if left out, the last one." }
// limit = { type = "int", default = 10000, min = 1, about = "Vertices at most, the nearest to the loss first." }
//
// [columns]
// depth = { type = "int", unit = "edges", about = "Dominant edges from here to the loss; 0 for the loss itself." }
// vertex = { type = "text", about = "Name of the operator or parameter." }
// kind = { type = "text", about = "operator, parameter or loss." }
// component = { type = "text", about = "Innermost component that it belongs to.", null = "it belongs to none" }
// next = { type = "text", about = "The vertex that its dominant edge leads to.", null = "it is the loss" }
// slot = { type = "int", unit = "position", about = "Which operand of that vertex it is.", null = "it is the loss" }
// mass = { type = "float", unit = "gradient", about = "Mass on the dominant edge.", null = "it is the loss" }
// traffic = { type = "int", unit = "traces", about = "Traces that cross the dominant edge.", null = "it is the loss" }
// flow = { type = "float", unit = "gradient", about = "Sum of |w·g| over the scalar edges of the dominant edge.", null = "it is the loss" }
// share = { type = "float", unit = "fraction", about = "Mass on the dominant edge over the mass of all traces.", null = "it is the loss, or there is no mass" }
//
// [example]
// depth = 1
// vertex = "head/Addmm"
// kind = "operator"
// component = "head"
// next = "LogSoftmax"
// slot = 0
// mass = 12.7
// traffic = 98304
// flow = 31.9
// share = 1.0
MATCH (s:Step {run: $run, step: $step})-[:HAS_TRACE]->(t:Trace {mode: $mode, batch: $batch})-[:ON]->(g:Graph)

WITH g, coalesce(t.flow, s.flow) AS flow, t.traffic AS traffic, t.mass AS mass, t.dominant AS dominant,
     reduce(total = 0.0, m IN COLLECT { MATCH (t)-[l:LEFT]->() RETURN l.mass } | total + m) AS total
MATCH (g)-[:HAS]->(:Vertex {kind: 'loss'}) ((b:Vertex)<-[e:EDGE]-(a:Vertex) WHERE dominant[e.idx]){0,} (v:Vertex)
WITH size(e) AS depth, v, e[-1] AS out, b[-1] AS next, flow, traffic, mass, total
RETURN depth, v.name AS vertex, v.kind AS kind, v.component AS component, next.name AS next, out.slot AS slot,
       mass[out.idx] AS mass, traffic[out.idx] AS traffic, flow[out.idx] AS flow,
       CASE WHEN total > 0 THEN mass[out.idx] / total END AS share
ORDER BY depth, mass DESC, v.idx
LIMIT $limit

// === subgraph ===
MATCH (s:Step {run: $run, step: $step})-[:HAS_TRACE]->(t:Trace {mode: $mode, batch: $batch})-[:ON]->(g:Graph)

WITH g, t.dominant AS dominant
MATCH (g)-[:HAS]->(a:Vertex)-[e:EDGE]->(b:Vertex)
WHERE dominant[e.idx]
RETURN a, e, b
ORDER BY e.idx DESC
LIMIT $limit
