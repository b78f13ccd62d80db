// question = "Which run comes first when none is named?"
// group = "lookup"
// about = "Runs with traced steps come first, the newest of them at the top."
//
// [parameters]
// most = { type = "int", default = 1000, min = 1, about = "Runs at most." }
//
// [columns]
// run = { type = "text", about = "Id of the run." }
// started = { type = "datetime", about = "When the run was announced." }
// steps = { type = "int", unit = "count", about = "Traced steps that are stored." }
//
// [example]
// run = "char-lstm-20261123-231501-7f3a"
// started = 2026-11-23T23:15:01Z
// steps = 60
CALL () {
  MATCH (r:Run)
  USING INDEX r:Run(started)
  WHERE r.started > datetime({year: 1}) AND r.steps > 0
  RETURN r ORDER BY r.started DESC, r.id DESC LIMIT $most
  UNION ALL
  MATCH (r:Run)
  USING INDEX r:Run(started)
  WHERE r.started > datetime({year: 1}) AND coalesce(r.steps, 0) = 0
  RETURN r ORDER BY r.started DESC, r.id DESC LIMIT $most
}
WITH r, coalesce(r.steps, 0) AS steps
RETURN r.id AS run, r.started AS started, steps
ORDER BY steps > 0 DESC, started DESC, run DESC
LIMIT $most
