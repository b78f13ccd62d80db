// How the innermost components stood in the epochs that earlier versions wrote, as arrays on each.

MATCH (x:Epoch)
WITH x.run AS run, x.epoch AS epoch, x.mode AS mode, x.batch AS batch, collect(x) AS nodes
CALL (run, epoch, mode, batch) {
  MATCH ()-[e:EPOCH_SHARE]->(c:Component)
  WHERE e.run = run AND e.epoch = epoch AND e.mode = mode AND e.batch = batch
    AND c.depth > 0 AND NOT EXISTS { (c)<-[:PART_OF]-() }
  WITH c.path AS path, sum(e.mass) AS mass, sum(e.total) AS total, sum(e.foreign) AS foreign,
       sum(e.won) AS won, sum(e.contested) AS contested
  ORDER BY path
  RETURN collect(path) AS components, collect(CASE WHEN total > 0 THEN mass / total ELSE 0.0 END) AS shares,
         collect(CASE WHEN total > 0 THEN foreign / total ELSE 0.0 END) AS foreign_shares,
         collect(won) AS won, collect(contested) AS contested
}
FOREACH (x IN nodes |
  SET x.components = components, x.shares = shares, x.foreign_shares = foreign_shares, x.won = won, x.contested = contested);
