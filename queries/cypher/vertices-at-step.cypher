// question = "Which operators and parameters did one step have, and how much gradient met at each?"
// group = "one step"
//
// [parameters]
// run = { type = "text", default_from = "run-ids.run", complete_from = "run-ids.run", about = "Id of the run; if left out, the newest one that has traced steps." }
// mode = { type = "text", default_from = "traced-modes.mode", complete_from = "traced-modes.mode", about = "How traces choose; if left out, greedy where the run has it." }
// batch = { type = "text", default_from = "traced-modes.batch", complete_from = "traced-modes.batch", about = "Batch that was traced, training or probe; if left out, training where the run has it." }
// step = { type = "int", min = 0, default_from = "traced-steps.step", complete_from = "traced-steps.step", about = "Number of a traced step; if left out, the last one." }
//
// [columns]
// vertex = { type = "int", unit = "index", about = "Position of the vertex in the graph, operators in the order of the forward pass." }
// name = { type = "text", about = "Name of the operator, parameter or constant." }
// kind = { type = "text", about = "operator, parameter, constant or loss." }
// op = { type = "text", about = "The operator as autograd names it; empty for parameters and constants." }
// component = { type = "text", about = "Innermost component that it belongs to.", null = "it belongs to none" }
// shape = { type = "ints", unit = "scalars a dimension", about = "Shape of its output or of the parameter." }
// time = { type = "int", unit = "index", about = "Which repetition of its component's call it is.", null = "it is recorded once" }
// traffic_in = { type = "int", unit = "traces", about = "Traces that enter it." }
// traffic_out = { type = "int", unit = "traces", about = "Traces that leave it." }
// mass_in = { type = "float", unit = "gradient", about = "Mass of the traces that enter it." }
// mass_out = { type = "float", unit = "gradient", about = "Mass of the traces that leave it." }
// next = { type = "text", about = "Where the dominant edge out of it leads.", null = "no trace leaves it" }
//
// [example]
// vertex = 12
// name = "head/Addmm"
// kind = "operator"
// op = "Addmm"
// component = "head"
// shape = [32, 98]
// traffic_in = 98304
// traffic_out = 98304
// mass_in = 12.7
// mass_out = 12.7
// next = "LogSoftmax"
MATCH (s:Step {run: $run, step: $step})-[:HAS_TRACE]->(t:Trace {mode: $mode, batch: $batch})-[:ON]->(g:Graph)

WITH g, t.traffic AS traffic, t.mass AS mass, t.dominant AS dominant
MATCH (g)-[:HAS]->(v:Vertex)
CALL (v, traffic, mass) {
  OPTIONAL MATCH (v)<-[e:EDGE]-(:Vertex)
  RETURN coalesce(sum(traffic[e.idx]), 0) AS traffic_in, coalesce(sum(mass[e.idx]), 0.0) AS mass_in
}
CALL (v, traffic, mass, dominant) {
  OPTIONAL MATCH (v)-[e:EDGE]->(b:Vertex)
  RETURN coalesce(sum(traffic[e.idx]), 0) AS traffic_out, coalesce(sum(mass[e.idx]), 0.0) AS mass_out,
         max(CASE WHEN dominant[e.idx] THEN b.name END) AS next
}
RETURN v.idx AS vertex, v.name AS name, v.kind AS kind, v.op AS op, v.component AS component, v.shape AS shape,
       v.time AS time, traffic_in, traffic_out, toFloat(mass_in) AS mass_in, toFloat(mass_out) AS mass_out, next
ORDER BY vertex
