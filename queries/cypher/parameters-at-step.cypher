// question = "How did each parameter stand at one step, and which way did its strongest gradient take?"
// group = "one step"
//
// [parameters]
// run = { type = "text", default_from = "run-ids.run", complete_from = "run-ids.run", about = "Id of the run; if left out, the newest one that has traced steps." }
// mode = { type = "text", default_from = "traced-modes.mode", complete_from = "traced-modes.mode", about = "How traces choose; if left out, greedy where the run has it." }
// batch = { type = "text", default_from = "traced-modes.batch", complete_from = "traced-modes.batch", about = "Batch that was traced, training or probe; if left out, training where the run has it." }
// step = { type = "int", min = 0, default_from = "traced-steps.step", complete_from = "traced-steps.step", about = "Number of a traced step; if left out, the last one." }
// limit = { type = "int", default = 10000, min = 1, about = "Parameters at most." }
//
// [columns]
// parameter = { type = "text", about = "Name of the parameter tensor." }
// shape = { type = "ints", unit = "scalars a dimension", about = "Its shape." }
// live = { type = "int", unit = "scalars", about = "Scalars with a trace." }
// dead = { type = "int", unit = "scalars", about = "Scalars that were read, but all of whose candidates are zero." }
// unread = { type = "int", unit = "scalars", about = "Scalars that no operator read." }
// non_finite = { type = "int", unit = "scalars", about = "Scalars whose gradient is NaN or infinite." }
// mass = { type = "float", unit = "gradient", about = "Sum of |gradient| over its live scalars." }
// share = { type = "float", unit = "fraction", about = "mass over the mass of all parameters." }
// route = { type = "text", about = "Components that the path of its strongest gradient crosses.", null = "no scalar is live" }
// length = { type = "int", unit = "operators", about = "Operators on that path.", null = "no scalar is live" }
// scalar = { type = "int", unit = "flat index", about = "The scalar where it starts.", null = "no scalar is live" }
// strongest = { type = "float", unit = "gradient", about = "|gradient| of that scalar.", null = "no scalar is live" }
// margin = { type = "float", unit = "ratio", about = "Least ratio of winner to runner-up on the way; infinite where there was never a second candidate.", null = "no scalar is live" }
// concentration = { type = "float", unit = "ratio", about = "|product of the weights on the path| over |gradient| of the scalar.", null = "no scalar is live" }
// example = { type = "int", unit = "index", about = "Position in the batch that the path goes through.", null = "the tracer cannot tell, or no scalar is live" }
// time = { type = "int", unit = "index", about = "First time step that the path goes through.", null = "nothing repeats, or no scalar is live" }
//
// [example]
// parameter = "lstm.weight_hh_l0"
// shape = [512, 128]
// live = 65536
// dead = 0
// unread = 0
// non_finite = 0
// mass = 12.7
// share = 0.31
// route = "(lstm.l0.carry lstm.l0.cell)+ head"
// length = 66
// scalar = 41022
// strongest = 0.031
// margin = 1.02
// concentration = 0.33
// example = 3
// time = 0
MATCH (s:Step {run: $run, step: $step})-[:HAS_TRACE]->(t:Trace {mode: $mode, batch: $batch})

MATCH (t)-[l:LEFT]->(v:Parameter)
WITH t, collect({v: v, l: l}) AS rows, sum(l.mass) AS total
UNWIND rows AS x
WITH t, x.v AS v, x.l AS l, total
OPTIONAL MATCH (t)-[d:DOMINANT {parameter: v.name}]->(p:Path)
OPTIONAL MATCH (p)-[:TAKES]->(r:Route)
RETURN v.name AS parameter, v.shape AS shape, l.traffic AS live, l.dead AS dead, l.unread AS unread,
       l.non_finite AS non_finite, l.mass AS mass, CASE WHEN total > 0 THEN l.mass / total ELSE 0.0 END AS share,
       r.text AS route, size(p.vertices) AS length, d.scalar AS scalar, d.mass AS strongest, d.margin AS margin,
       d.concentration AS concentration, d.example AS example, d.time AS time
ORDER BY mass DESC, parameter
LIMIT $limit
