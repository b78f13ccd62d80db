// question = "Which scalars does the trace of one parameter scalar cross, from the first operator to the loss?"
// group = "one step"
// about = "For runs with --granularity scalar; other steps have no rows. The walk goes over real relationships, NEXT, one a scalar and mode."
//
// [parameters]
// run = { type = "text", default_from = "run-ids.run", complete_from = "run-ids.run", about = "Id of the run; if left out, the newest one that has traced steps." }
// parameter = { type = "text", required = true, complete_from = "parameter-names.parameter", about = "Name of the parameter tensor." }
// scalar = { type = "int", min = 0, optional = true, about = "Flat index of a scalar of it; if left out, the live one with the largest |gradient|." }
// mode = { type = "text", default_from = "traced-modes.mode", complete_from = "traced-modes.mode", about = "How traces choose; if left out, greedy where the run has it." }
// batch = { type = "text", default_from = "traced-modes.batch", complete_from = "traced-modes.batch", about = "Batch that was traced, training or probe; if left out, training where the run has it." }
// step = { type = "int", min = 0, default_from = "traced-steps.step", complete_from = "traced-steps.step", about = "Number of a traced step; if left out, the last one." }
//
// [columns]
// hop = { type = "int", unit = "edges", about = "Edges crossed so far." }
// scalar = { type = "int", unit = "flat index", about = "The parameter's scalar at which the walk starts." }
// operator = { type = "text", about = "Name of the operator that this edge leads to." }
// op = { type = "text", about = "The operator as autograd names it." }
// index = { type = "int", unit = "flat index", about = "Which scalar of its output." }
// component = { type = "text", about = "Innermost component of that scalar.", null = "it belongs to none" }
// weight = { type = "float", unit = "partial", about = "Partial of that scalar by the one before." }
// gradient = { type = "float", unit = "gradient", about = "Gradient of that scalar." }
// ways = { type = "int", unit = "edges", about = "Edges of non-zero weight that led out of the scalar before: what it chose among." }
//
// [example]
// hop = 1
// scalar = 3
// operator = "0/Addmm"
// op = "Addmm"
// index = 7
// component = "0"
// weight = 0.81
// gradient = -0.07
// ways = 6
MATCH (s:Step {run: $run, step: $step})-[:HAS_SCALARS]->(g:ScalarGraph {batch: $batch})
WHERE s.pruned IS NULL
// Not from the parameter on: it has scalars at every step.
MATCH (g)-[:HAS_SCALAR]->(start:Scalar)
WHERE ($scalar IS NULL OR start.index = $scalar) AND EXISTS { (start)-[:OF]->(:Parameter {name: $parameter}) }
  AND EXISTS { (start)-[:NEXT {mode: $mode}]->(:Scalar) }
WITH start
ORDER BY CASE WHEN abs(start.gradient) < 1.7e308 THEN abs(start.gradient) ELSE -1.0 END DESC, start.idx
LIMIT 1
MATCH (start) ((a:Scalar)-[n:NEXT {mode: $mode}]->(b:Scalar))+ (last:Scalar)
WHERE NOT EXISTS { (last)-[:NEXT {mode: $mode}]->(:Scalar) }
UNWIND range(0, size(n) - 1) AS i
WITH start.index AS scalar, i + 1 AS hop, a[i] AS from, n[i] AS way, b[i] AS to
MATCH (to)-[:OF]->(v:Vertex)
RETURN hop, scalar, v.name AS operator, v.op AS op, to.index AS index, to.component AS component, way.weight AS weight,
       to.gradient AS gradient, COUNT { (from)-[:WEIGHS]->(:Scalar) } AS ways
ORDER BY hop

// === subgraph ===
MATCH (s:Step {run: $run, step: $step})-[:HAS_SCALARS]->(g:ScalarGraph {batch: $batch})
WHERE s.pruned IS NULL
MATCH (g)-[:HAS_SCALAR]->(start:Scalar)
WHERE ($scalar IS NULL OR start.index = $scalar) AND EXISTS { (start)-[:OF]->(:Parameter {name: $parameter}) }
  AND EXISTS { (start)-[:NEXT {mode: $mode}]->(:Scalar) }
WITH start
ORDER BY CASE WHEN abs(start.gradient) < 1.7e308 THEN abs(start.gradient) ELSE -1.0 END DESC, start.idx
LIMIT 1
MATCH p = (start) (()-[:NEXT {mode: $mode}]->())+ (last:Scalar)
WHERE NOT EXISTS { (last)-[:NEXT {mode: $mode}]->(:Scalar) }
RETURN p
