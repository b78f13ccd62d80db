// question = "Where does the dominant way lead from one parameter to the loss, operator by operator, at one step?"
// group = "one step"
// about = "At each vertex the edge with most mass of all parameters is followed, so the walk need not be the path of any one scalar; parameter-path gives that."
//
// [parameters]
// run = { type = "text", default_from = "run-ids.run", complete_from = "run-ids.run", about = "Id of the run; if left out, the newest one that has traced steps." }
// parameter = { type = "text", required = true, complete_from = "parameter-names.parameter", about = "Name of the parameter tensor." }
// mode = { type = "text", default_from = "traced-modes.mode", complete_from = "traced-modes.mode", about = "How traces choose; if left out, greedy where the run has it." }
// batch = { type = "text", default_from = "traced-modes.batch", complete_from = "traced-modes.batch", about = "Batch that was traced, training or probe; if left out, training where the run has it." }
// step = { type = "int", min = 0, default_from = "traced-steps.step", complete_from = "traced-steps.step", about = "Number of a traced step; if left out, the last one." }
//
// [columns]
// hop = { type = "int", unit = "edges", about = "Edges crossed so far." }
// operator = { type = "text", about = "Name of the operator that this edge leads to." }
// op = { type = "text", about = "The operator as autograd names it." }
// component = { type = "text", about = "Innermost component that it belongs to.", null = "it belongs to none" }
// flow = { type = "float", unit = "gradient", about = "Sum of |w·g| over the scalar edges." }
// traffic = { type = "int", unit = "traces", about = "Traces that cross the edge." }
// mass = { type = "float", unit = "gradient", about = "Mass of these traces." }
//
// [example]
// hop = 1
// operator = "head/Addmm"
// op = "Addmm"
// component = "head"
// flow = 31.9
// traffic = 8192
// mass = 12.7
MATCH (s:Step {run: $run, step: $step})-[:HAS_TRACE]->(t:Trace {mode: $mode, batch: $batch})-[:ON]->(g:Graph)

WITH g, coalesce(t.flow, s.flow) AS flow, t.traffic AS traffic, t.mass AS mass, t.dominant AS dominant
MATCH (g)-[:HAS]->(:Parameter {name: $parameter}) ((a:Vertex)-[e:EDGE]->(b:Vertex) WHERE dominant[e.idx])+
      (:Vertex {kind: 'loss'})
UNWIND range(0, size(e) - 1) AS i
WITH i + 1 AS hop, b[i] AS v, e[i].idx AS idx, flow, traffic, mass
RETURN hop, v.name AS operator, v.op AS op, v.component AS component, flow[idx] AS flow, traffic[idx] AS traffic,
       mass[idx] AS mass
ORDER BY hop

// === subgraph ===
MATCH (s:Step {run: $run, step: $step})-[:HAS_TRACE]->(t:Trace {mode: $mode, batch: $batch})-[:ON]->(g:Graph)

WITH g, t.dominant AS dominant
MATCH p = (:Parameter {name: $parameter})((:Vertex)-[e:EDGE]->(:Vertex) WHERE dominant[e.idx])+(:Vertex {kind: 'loss'})
WHERE EXISTS { (g)-[:HAS]->(x:Parameter WHERE x = nodes(p)[0]) }
RETURN p
