// question = "Through which example of the batch, and which time step, does each parameter's strongest path go most often?"
// group = "one run"
// about = "Counted from the path of the strongest gradient of each parameter. Positions in the batch are the same examples only where the batch is held fixed."
//
// [parameters]
// run = { type = "text", default_from = "run-ids.run", complete_from = "run-ids.run", about = "Id of the run; if left out, the newest one that has traced steps." }
// mode = { type = "text", default_from = "traced-modes.mode", complete_from = "traced-modes.mode", about = "How traces choose; if left out, greedy where the run has it." }
// batch = { type = "text", default_from = "traced-modes.batch", complete_from = "traced-modes.batch", about = "Batch that was traced, training or probe; if left out, training where the run has it." }
// step = { type = "int", min = 0, optional = true, complete_from = "traced-steps.step", about = "Only this step." }
// points = { type = "int", default = 60, min = 2, about = "Steps at most; of more, as many are taken at even distances, the first and the last among them." }
// limit = { type = "int", default = 1000, min = 1, about = "Parameters at most." }
//
// [columns]
// parameter = { type = "text", about = "Name of the parameter tensor." }
// steps = { type = "int", unit = "count", about = "Steps at which it had a path." }
// example = { type = "int", unit = "position", about = "Position in the batch that its path went through most often.", null = "the tracer could tell at no step" }
// example_share = { type = "float", unit = "fraction", about = "The part of these steps at which it did." }
// examples = { type = "int", unit = "count", about = "Different positions that it went through." }
// time = { type = "int", unit = "time step", about = "Time step that its path went through first, most often.", null = "nothing repeats on its paths" }
// time_share = { type = "float", unit = "fraction", about = "The part of these steps at which it did." }
// times = { type = "int", unit = "count", about = "Different time steps." }
//
// [example]
// parameter = "lstm.weight_hh_l0"
// steps = 60
// example = 17
// example_share = 0.3
// examples = 22
// time = 31
// time_share = 0.85
// times = 4
MATCH (s:Step)
WHERE s.run = $run AND s.step >= coalesce($step, 0) AND s.step <= coalesce($step, 9223372036854775807)
MATCH (s)-[:HAS_TRACE]->(t:Trace {mode: $mode, batch: $batch})
WITH s, t ORDER BY s.run, s.step
WITH collect(t) AS traced
WITH traced, CASE WHEN size(traced) > $points THEN $points ELSE size(traced) END AS points
UNWIND range(0, points - 1) AS i
WITH traced[CASE WHEN points < size(traced) THEN i * (size(traced) - 1) / (points - 1) ELSE i END] AS t
MATCH (t)-[d:DOMINANT]->(:Path)
WITH d.parameter AS parameter, count(*) AS steps, collect(d.example) AS examples, collect(d.time) AS times
CALL (examples) {
  UNWIND CASE WHEN examples = [] THEN [null] ELSE examples END AS example
  WITH example, count(example) AS taken ORDER BY taken DESC, example
  WITH collect({at: example, taken: taken}) AS all, count(example) AS different
  RETURN all[0].at AS example, all[0].taken AS at_example, different AS different_examples
}
CALL (times) {
  UNWIND CASE WHEN times = [] THEN [null] ELSE times END AS time
  WITH time, count(time) AS taken ORDER BY taken DESC, time
  WITH collect({at: time, taken: taken}) AS all, count(time) AS different
  RETURN all[0].at AS time, all[0].taken AS at_time, different AS different_times
}
RETURN parameter, steps, example, toFloat(at_example) / steps AS example_share, different_examples AS examples, time,
       toFloat(at_time) / steps AS time_share, different_times AS times
ORDER BY parameter
LIMIT $limit
