// question = "Which routes through the components carry most of the gradient?"
// group = "one run"
// about = "Summed over the run, one epoch or one step. A route that was among the kept ones at some steps only counts as other at the rest."
//
// [parameters]
// run = { type = "text", default_from = "run-ids.run", complete_from = "run-ids.run", about = "Id of the run; if left out, the newest one that has traced steps." }
// parameter = { type = "text", default = "*", complete_from = "parameter-names.parameter", about = "Name of the parameter tensor where traces start; * for all." }
// mode = { type = "text", default_from = "traced-modes.mode", complete_from = "traced-modes.mode", about = "How traces choose; if left out, greedy where the run has it." }
// batch = { type = "text", default_from = "traced-modes.batch", complete_from = "traced-modes.batch", about = "Batch that was traced, training or probe; if left out, training where the run has it." }
// epoch = { type = "int", min = 0, optional = true, complete_from = "epochs.epoch", about = "Only this epoch." }
// step = { type = "int", min = 0, optional = true, complete_from = "traced-steps.step", about = "Only this step." }
// limit = { type = "int", default = 20, min = 1, about = "Routes at most." }
//
// [columns]
// route = { type = "text", about = "Components crossed in order; + means two or more times; other is the sum of all routes beyond the kept ones." }
// share = { type = "float", unit = "fraction", about = "mass over the mass of all traces of the parameter, over the same steps." }
// mass = { type = "float", unit = "gradient", about = "Sum of |gradient| of the parameter scalars whose traces take it, over the steps." }
// traffic = { type = "int", unit = "traces", about = "Traces that take it, summed over the steps." }
// steps = { type = "int", unit = "count", about = "Steps at which it was among the kept routes." }
// best_rank = { type = "int", unit = "rank", about = "Its best rank at any of these steps." }
// first_step = { type = "int", unit = "step", about = "The first of these steps." }
// last_step = { type = "int", unit = "step", about = "The last of these steps." }
//
// [example]
// route = "embed (lstm.l0.carry lstm.l0.cell)+ head"
// share = 0.42
// mass = 12.7
// traffic = 90112
// steps = 60
// best_rank = 1
// first_step = 0
// last_step = 590
CALL () {
  // A run and an epoch are answered from what is summed already, a step from its own routes; the other part is empty.
  MATCH (:Run {id: $run})-[x:TOOK]->(r:Route)
  WHERE $step IS NULL AND x.mode = $mode AND x.batch = $batch AND x.parameter = $parameter
    AND ($epoch IS NULL OR x.epoch = $epoch)
  RETURN r, x.mass AS mass, x.traffic AS traffic, x.steps AS steps, x.rank AS rank, x.first AS first, x.last AS last
  UNION ALL
  MATCH (s:Step {run: $run, step: $step})
  WHERE $epoch IS NULL OR s.epoch = $epoch
  MATCH (s)-[:HAS_TRACE]->(:Trace {mode: $mode, batch: $batch})-[x:TOP {parameter: $parameter}]->(r:Route)
  RETURN r, x.mass AS mass, x.traffic AS traffic, 1 AS steps, x.rank AS rank, s.step AS first, s.step AS last
}
WITH r, sum(mass) AS mass, sum(traffic) AS traffic, sum(steps) AS steps, min(rank) AS best_rank,
     min(first) AS first_step, max(last) AS last_step
WITH collect({r: r, mass: mass, traffic: traffic, steps: steps, best_rank: best_rank, first_step: first_step,
              last_step: last_step}) AS rows, sum(mass) AS total
UNWIND rows AS x
RETURN x.r.text AS route, CASE WHEN total > 0 THEN x.mass / total ELSE 0.0 END AS share, x.mass AS mass,
       x.traffic AS traffic, x.steps AS steps, x.best_rank AS best_rank, x.first_step AS first_step,
       x.last_step AS last_step
ORDER BY x.r.hash = 'other', x.mass DESC, route
LIMIT $limit

// === subgraph ===
CALL () {
  MATCH (:Run {id: $run})-[x:TOOK]->(r:Route)
  WHERE $step IS NULL AND x.mode = $mode AND x.batch = $batch AND x.parameter = $parameter
    AND ($epoch IS NULL OR x.epoch = $epoch)
  RETURN r, x.mass AS mass
  UNION ALL
  MATCH (s:Step {run: $run, step: $step})
  WHERE $epoch IS NULL OR s.epoch = $epoch
  MATCH (s)-[:HAS_TRACE]->(:Trace {mode: $mode, batch: $batch})-[x:TOP {parameter: $parameter}]->(r:Route)
  RETURN r, x.mass AS mass
}
WITH r, sum(mass) AS mass ORDER BY mass DESC, r.hash LIMIT $limit
MATCH (r)-[x:CROSSES]->(c:Component)
RETURN r, x, c
