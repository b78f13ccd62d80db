// Sum what earlier versions stored. Keys are arbitrary here: later steps of these runs get rows beside these, which
// questions add up, and a rebuild of the rollups makes one row of them.

MATCH (s:Step)-[:HAS_TRACE]->(t:Trace)-[x:TOP]->(r:Route)
WITH s.run AS id, s.epoch AS epoch, t.mode AS mode, t.batch AS batch, x.parameter AS parameter, r, count(*) AS steps,
     sum(x.traffic) AS traffic, sum(CASE WHEN abs(x.mass) < 1.7e308 THEN x.mass ELSE 0.0 END) AS mass,
     min(x.rank) AS rank, min(s.step) AS first, max(s.step) AS last
MATCH (run:Run {id: id})
CREATE (run)-[:TOOK {key: randomUUID(), mode: mode, batch: batch, epoch: epoch, parameter: parameter, steps: steps,
                     traffic: traffic, mass: mass, rank: rank, first: first, last: last}]->(r);
