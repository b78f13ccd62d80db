// question = "Which parameters keep to one path over a run, and which change often?"
// group = "one run"
// about = "Counted from the path of the strongest gradient of each parameter at each traced step; the parameters that change most come first. Paths belong to one graph, so a batch of another size counts as another path; parameter-path compares operators by name."
//
// [parameters]
// run = { type = "text", default_from = "run-ids.run", complete_from = "run-ids.run", about = "Id of the run; if left out, the newest one that has traced steps." }
// mode = { type = "text", default_from = "traced-modes.mode", complete_from = "traced-modes.mode", about = "How traces choose; if left out, greedy where the run has it." }
// batch = { type = "text", default_from = "traced-modes.batch", complete_from = "traced-modes.batch", about = "Batch that was traced, training or probe; if left out, training where the run has it." }
// limit = { type = "int", default = 1000, min = 1, about = "Parameters at most." }
//
// [columns]
// parameter = { type = "text", about = "Name of the parameter tensor." }
// steps = { type = "int", unit = "count", about = "Traced steps at which it had a path." }
// paths = { type = "int", unit = "count", about = "Different paths that it took." }
// main_share = { type = "float", unit = "fraction", about = "The part of these steps at which it took the path that it took most often." }
// route = { type = "text", about = "Components that this path crosses, with repeats collapsed." }
// first_step = { type = "int", unit = "step", about = "The first step at which it took this path." }
// last_step = { type = "int", unit = "step", about = "The last one." }
//
// [example]
// parameter = "lstm.weight_hh_l0"
// steps = 60
// paths = 9
// main_share = 0.55
// route = "(lstm.l0.carry lstm.l0.cell)+ head"
// first_step = 40
// last_step = 590
MATCH (:Run {id: $run})-[f:FOLLOWS {mode: $mode, batch: $batch}]->(p:Path)
WITH f, p ORDER BY f.parameter, f.steps DESC, f.first
WITH f.parameter AS parameter, sum(f.steps) AS steps, count(*) AS paths, collect({f: f, p: p})[0] AS main
WITH parameter, steps, paths, main.f AS f, main.p AS p
MATCH (p)-[:TAKES]->(r:Route)
RETURN parameter, steps, paths, toFloat(f.steps) / steps AS main_share, r.text AS route, f.first AS first_step,
       f.last AS last_step
ORDER BY main_share, paths DESC, parameter
LIMIT $limit
