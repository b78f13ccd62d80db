// question = "Which epochs of a run were traced, and how was its loss in each?"
// group = "lookup"
//
// [parameters]
// run = { type = "text", default_from = "run-ids.run", complete_from = "run-ids.run", about = "Id of the run; if left out, the newest one that has traced steps." }
//
// [columns]
// epoch = { type = "int", unit = "epoch", about = "Number of the pass over the data." }
// steps = { type = "int", unit = "count", about = "Traced steps in it." }
// loss = { type = "float", unit = "loss", about = "Mean loss of the steps whose loss is finite.", null = "no loss is finite" }
//
// [example]
// epoch = 0
// steps = 20
// loss = 2.71
MATCH (s:Step)
WHERE s.run = $run AND s.step >= 0
RETURN s.epoch AS epoch, count(*) AS steps,
       avg(CASE WHEN abs(s.loss) < 1.7e308 THEN s.loss END) AS loss
ORDER BY epoch
