// question = "When did each parameter's strongest path, and its route, first change, and from what to what?"
// group = "one run"
// about = "Counted from the path of the strongest gradient of each parameter at each traced step; those that change first come first. Operators are compared by name, so a batch of another size is no change. Steps at which a parameter has no path are passed over."
//
// [parameters]
// run = { type = "text", default_from = "run-ids.run", complete_from = "run-ids.run", about = "Id of the run; if left out, the newest one that has traced steps." }
// mode = { type = "text", default_from = "traced-modes.mode", complete_from = "traced-modes.mode", about = "How traces choose; if left out, greedy where the run has it." }
// batch = { type = "text", default_from = "traced-modes.batch", complete_from = "traced-modes.batch", about = "Batch that was traced, training or probe; if left out, training where the run has it." }
// limit = { type = "int", default = 1000, min = 1, about = "Parameters at most." }
//
// [columns]
// parameter = { type = "text", about = "Name of the parameter tensor." }
// first_step = { type = "int", unit = "step", about = "The first step at which it had a path." }
// route = { type = "text", about = "Components that this path crossed, with repeats collapsed." }
// path_step = { type = "int", unit = "step", about = "The first step at which it took another path.", null = "it kept its path" }
// before = { type = "text", about = "The first operator of the old path that is not on the new one at the same place.", null = "it kept its path, or the new one goes on where the old one ended" }
// after = { type = "text", about = "The operator that the new path crosses instead.", null = "it kept its path, or the new one ends before" }
// route_step = { type = "int", unit = "step", about = "The first step at which it took another route.", null = "it kept its route" }
// new_route = { type = "text", about = "That route.", null = "it kept its route" }
//
// [example]
// parameter = "lstm.weight_hh_l0"
// first_step = 0
// route = "(lstm.l0.forget_gate lstm.l0.carry)+ head"
// path_step = 20
// before = "lstm.l0.forget_gate/Sigmoid@30"
// after = "lstm.l0.input_gate/Sigmoid@30"
// route_step = 140
// new_route = "(lstm.l0.carry lstm.l0.cell)+ head"
MATCH (:Run {id: $run})-[f:FOLLOWS {mode: $mode, batch: $batch}]->(p:Path)-[:ON]->(g:Graph)
WITH g, collect({f: f, p: p}) AS taken
CALL (g) {
  MATCH (g)-[:HAS]->(v:Vertex)
  WITH v ORDER BY v.idx
  RETURN collect(v.name) AS names
}
UNWIND taken AS x
WITH x.f AS f, x.p AS p, names
MATCH (p)-[:TAKES]->(r:Route)
WITH f.parameter AS parameter, f.first AS first, r.text AS route, [i IN p.vertices | names[i]] AS operators
ORDER BY parameter, first
WITH parameter, collect({first: first, route: route, operators: operators}) AS taken
WITH parameter, taken[0] AS start, [x IN taken WHERE x.operators <> taken[0].operators][0] AS other,
     [x IN taken WHERE x.route <> taken[0].route][0] AS turn
WITH parameter, start, other, turn,
     [i IN range(0, size(start.operators))
      WHERE coalesce(start.operators[i], '') <> coalesce(other.operators[i], '')][0] AS fork
RETURN parameter, start.first AS first_step, start.route AS route, other.first AS path_step,
       CASE WHEN other IS NOT NULL THEN start.operators[fork] END AS before, other.operators[fork] AS after,
       turn.first AS route_step, turn.route AS new_route
ORDER BY path_step, parameter
LIMIT $limit
