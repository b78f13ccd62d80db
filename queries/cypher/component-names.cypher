// question = "Which components does the model of a run have?"
// group = "lookup"
//
// [parameters]
// run = { type = "text", default_from = "run-ids.run", complete_from = "run-ids.run", about = "Id of the run; if left out, the newest one that has traced steps." }
//
// [columns]
// component = { type = "text", about = "Path of the component; <model> is the model itself." }
// depth = { type = "int", unit = "count", about = "How many components contain it." }
// role = { type = "text", about = "What the user said it is for.", null = "the user said nothing" }
//
// [example]
// component = "lstm.l0.carry"
// depth = 3
MATCH (x:Epoch)
WHERE x.run = $run AND x.epoch >= 0
WITH DISTINCT x.graph AS fingerprint
MATCH (g:Graph {fingerprint: fingerprint})
WITH DISTINCT g.architecture AS hash
MATCH (:Architecture {hash: hash})-[:OFFERS]->(c:Component)
RETURN c.path AS component, c.depth AS depth, min(c.role) AS role
ORDER BY component
