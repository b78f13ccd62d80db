// question = "Which parameters does the model of a run have?"
// group = "lookup"
//
// [parameters]
// run = { type = "text", default_from = "run-ids.run", complete_from = "run-ids.run", about = "Id of the run; if left out, the newest one that has traced steps." }
//
// [columns]
// parameter = { type = "text", about = "Name of the parameter tensor." }
// shape = { type = "ints", unit = "scalars a dimension", about = "Its shape." }
//
// [example]
// parameter = "lstm.weight_hh_l0"
// shape = [512, 128]
MATCH (x:Epoch)
WHERE x.run = $run AND x.epoch >= 0
WITH DISTINCT x.graph AS fingerprint
MATCH (:Graph {fingerprint: fingerprint})-[:HAS]->(v:Parameter)
RETURN DISTINCT v.name AS parameter, v.shape AS shape
ORDER BY parameter, shape
