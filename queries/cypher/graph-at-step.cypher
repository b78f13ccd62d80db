// question = "What did the operator graph of one step look like, with the gradient on every edge?"
// group = "one step"
// about = "One row an edge; vertices-at-step has one row a vertex."
//
// [parameters]
// run = { type = "text", default_from = "run-ids.run", complete_from = "run-ids.run", about = "Id of the run; if left out, the newest one that has traced steps." }
// mode = { type = "text", default_from = "traced-modes.mode", complete_from = "traced-modes.mode", about = "How traces choose; if left out, greedy where the run has it." }
// batch = { type = "text", default_from = "traced-modes.batch", complete_from = "traced-modes.batch", about = "Batch that was traced, training or probe; if left out, training where the run has it." }
// step = { type = "int", min = 0, default_from = "traced-steps.step", complete_from = "traced-steps.step", about = "Number of a traced step; if left out, the last one." }
//
// [columns]
// edge = { type = "int", unit = "index", about = "Position of the edge in the graph's arrays." }
// source = { type = "text", about = "Name of the operator, parameter or constant that was read." }
// source_kind = { type = "text", about = "operator, parameter or constant." }
// source_component = { type = "text", about = "Component of the source.", null = "it belongs to none" }
// target = { type = "text", about = "Name of the operator that read it." }
// target_op = { type = "text", about = "The target's operator, as autograd names it." }
// target_component = { type = "text", about = "Component of the target.", null = "it belongs to none" }
// slot = { type = "int", unit = "position", about = "Which operand of the target it is." }
// flow = { type = "float", unit = "gradient", about = "Sum of |w·g| over its scalar edges." }
// peak = { type = "float", unit = "gradient", about = "Largest |w·g| of a scalar edge." }
// traffic = { type = "int", unit = "traces", about = "Traces that cross it." }
// mass = { type = "float", unit = "gradient", about = "Sum of |gradient| of the parameter scalars whose traces cross it." }
// dominant = { type = "bool", about = "Whether it is the way out of its source with most mass." }
//
// [example]
// edge = 12
// source = "head.weight"
// source_kind = "parameter"
// source_component = "head"
// target = "head/Addmm"
// target_op = "Addmm"
// target_component = "head"
// slot = 2
// flow = 31.9
// peak = 0.07
// traffic = 8192
// mass = 12.7
// dominant = true
MATCH (s:Step {run: $run, step: $step})-[:HAS_TRACE]->(t:Trace {mode: $mode, batch: $batch})-[:ON]->(g:Graph)

WITH g, coalesce(t.flow, s.flow) AS flow, coalesce(t.peak, s.peak) AS peak, t.traffic AS traffic, t.mass AS mass,
     t.dominant AS dominant
MATCH (g)-[:HAS]->(a:Vertex)-[e:EDGE]->(b:Vertex)
RETURN e.idx AS edge, a.name AS source, a.kind AS source_kind, a.component AS source_component, b.name AS target,
       b.op AS target_op, b.component AS target_component, e.slot AS slot, flow[e.idx] AS flow, peak[e.idx] AS peak,
       traffic[e.idx] AS traffic, mass[e.idx] AS mass, dominant[e.idx] AS dominant
ORDER BY edge

// === subgraph ===
MATCH (s:Step {run: $run, step: $step})-[:HAS_TRACE]->(t:Trace {mode: $mode, batch: $batch})-[:ON]->(g:Graph)

MATCH (g)-[:HAS]->(a:Vertex)
OPTIONAL MATCH (a)-[e:EDGE]->(b:Vertex)
RETURN a, e, b
