// question = "What did the scalar graph of one step look like, edge by edge?"
// group = "one step"
// about = "For runs with --granularity scalar; other steps have no rows. A scalar is named by the operator or parameter that it belongs to and its flat index there; scalar-path follows the trace of one."
//
// [parameters]
// run = { type = "text", default_from = "run-ids.run", complete_from = "run-ids.run", about = "Id of the run; if left out, the newest one that has traced steps." }
// mode = { type = "text", default_from = "traced-modes.mode", complete_from = "traced-modes.mode", about = "How traces choose; if left out, greedy where the run has it." }
// batch = { type = "text", default_from = "traced-modes.batch", complete_from = "traced-modes.batch", about = "Batch that was traced, training or probe; if left out, training where the run has it." }
// step = { type = "int", min = 0, default_from = "traced-steps.step", complete_from = "traced-steps.step", about = "Number of a traced step; if left out, the last one." }
// limit = { type = "int", default = 10000, min = 1, about = "Edges at most." }
//
// [columns]
// edge = { type = "int", unit = "index", about = "Position of the edge in the scalar graph." }
// source = { type = "text", about = "Name of the operator or parameter whose scalar was read." }
// source_index = { type = "int", unit = "flat index", about = "Which of its scalars." }
// target = { type = "text", about = "Name of the operator that read it." }
// target_index = { type = "int", unit = "flat index", about = "Which of its scalars came of that." }
// component = { type = "text", about = "Innermost component of that scalar.", null = "it belongs to none" }
// slot = { type = "int", unit = "position", about = "Which operand of the target it is." }
// weight = { type = "float", unit = "partial", about = "Partial of the target's scalar by the source's." }
// gradient = { type = "float", unit = "gradient", about = "Gradient of the target's scalar." }
// flow = { type = "float", unit = "gradient", about = "|weight · gradient|, what greedy compares." }
// taken = { type = "bool", about = "Whether the trace of the source's scalar takes this edge." }
//
// [example]
// edge = 12
// source = "0.weight"
// source_index = 3
// target = "0/Addmm"
// target_index = 7
// component = "0"
// slot = 2
// weight = 0.81
// gradient = -0.07
// flow = 0.0567
// taken = true
MATCH (s:Step {run: $run, step: $step})-[:HAS_SCALARS]->(g:ScalarGraph {batch: $batch})
WHERE s.pruned IS NULL
MATCH (g)-[:HAS_SCALAR]->(a:Scalar)-[w:WEIGHS]->(b:Scalar)
WITH a, w, b
ORDER BY w.idx
LIMIT $limit
MATCH (a)-[:OF]->(v:Vertex)
MATCH (b)-[:OF]->(u:Vertex)
RETURN w.idx AS edge, v.name AS source, a.index AS source_index, u.name AS target, b.index AS target_index,
       b.component AS component, w.slot AS slot, w.weight AS weight, b.gradient AS gradient, w.flow AS flow,
       EXISTS { (a)-[:NEXT {mode: $mode, idx: w.idx}]->(b) } AS taken
ORDER BY edge

// === subgraph ===
MATCH (s:Step {run: $run, step: $step})-[:HAS_SCALARS]->(g:ScalarGraph {batch: $batch})
WHERE s.pruned IS NULL
MATCH (g)-[:HAS_SCALAR]->(a:Scalar)-[w:WEIGHS]->(b:Scalar)
WITH a, w, b
ORDER BY w.idx
LIMIT $limit
OPTIONAL MATCH (a)-[n:NEXT {mode: $mode, idx: w.idx}]->(b)
RETURN a, w, b, n
