// question = "Which operators lie on the paths of most parameters?"
// group = "one run"
// about = "Counted from the path of the strongest gradient of each parameter at each traced step. Operators of several graphs are one where their names are equal."
//
// [parameters]
// run = { type = "text", default_from = "run-ids.run", complete_from = "run-ids.run", about = "Id of the run; if left out, the newest one that has traced steps." }
// mode = { type = "text", default_from = "traced-modes.mode", complete_from = "traced-modes.mode", about = "How traces choose; if left out, greedy where the run has it." }
// batch = { type = "text", default_from = "traced-modes.batch", complete_from = "traced-modes.batch", about = "Batch that was traced, training or probe; if left out, training where the run has it." }
// limit = { type = "int", default = 20, min = 1, about = "Operators at most." }
//
// [columns]
// operator = { type = "text", about = "Name of the operator." }
// op = { type = "text", about = "The operator as autograd names it." }
// component = { type = "text", about = "Innermost component that it belongs to.", null = "it belongs to none" }
// share = { type = "float", unit = "fraction", about = "The part of all these paths, counted at every step, that cross it." }
// parameters = { type = "int", unit = "count", about = "Parameters whose path crossed it at some step." }
// crossings = { type = "int", unit = "parameters times steps", about = "How often a path crossed it." }
//
// [example]
// operator = "head/Addmm"
// op = "Addmm"
// component = "head"
// share = 0.86
// parameters = 6
// crossings = 360
MATCH (:Run {id: $run})-[f:FOLLOWS {mode: $mode, batch: $batch}]->(p:Path)
// Paths first, then their operators: each path is walked once, however many parameters took it.
WITH p, sum(f.steps) AS steps, collect(DISTINCT f.parameter) AS names
WITH collect({p: p, steps: steps, names: names}) AS paths, sum(steps) AS total
UNWIND paths AS x
WITH x.p AS p, x.steps AS steps, x.names AS names, total
MATCH (p)-[:VISITS]->(v:Vertex)
WITH DISTINCT p, v, steps, names, total
WITH v.name AS operator, v.op AS op, v.component AS component, total, sum(steps) AS crossings, collect(names) AS lists
RETURN operator, op, component, toFloat(crossings) / total AS share,
       COUNT { UNWIND lists AS names UNWIND names AS name RETURN DISTINCT name } AS parameters, crossings
ORDER BY crossings DESC, operator
LIMIT $limit
