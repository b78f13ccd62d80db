// question = "How many nodes and relationships does the store hold?"
// group = "health"
// about = "Answered from the store's own counters, whatever its size."
//
// [columns]
// kind = { type = "text", about = "node or relationship." }
// name = { type = "text", about = "Label or type; * for all of them together." }
// count = { type = "int", unit = "count", about = "How many there are. A parameter is a vertex too, and counts under both." }
//
// [example]
// kind = "node"
// name = "Step"
// count = 60
CALL () {
  MATCH (n) WITH count(n) AS count RETURN 'node' AS kind, '*' AS name, count
  UNION ALL
  MATCH (n:Architecture) WITH count(n) AS count RETURN 'node' AS kind, 'Architecture' AS name, count
  UNION ALL
  MATCH (n:Component) WITH count(n) AS count RETURN 'node' AS kind, 'Component' AS name, count
  UNION ALL
  MATCH (n:Epoch) WITH count(n) AS count RETURN 'node' AS kind, 'Epoch' AS name, count
  UNION ALL
  MATCH (n:Experiment) WITH count(n) AS count RETURN 'node' AS kind, 'Experiment' AS name, count
  UNION ALL
  MATCH (n:Graph) WITH count(n) AS count RETURN 'node' AS kind, 'Graph' AS name, count
  UNION ALL
  MATCH (n:Parameter) WITH count(n) AS count RETURN 'node' AS kind, 'Parameter' AS name, count
  UNION ALL
  MATCH (n:Path) WITH count(n) AS count RETURN 'node' AS kind, 'Path' AS name, count
  UNION ALL
  MATCH (n:Route) WITH count(n) AS count RETURN 'node' AS kind, 'Route' AS name, count
  UNION ALL
  MATCH (n:Run) WITH count(n) AS count RETURN 'node' AS kind, 'Run' AS name, count
  UNION ALL
  MATCH (n:Scalar) WITH count(n) AS count RETURN 'node' AS kind, 'Scalar' AS name, count
  UNION ALL
  MATCH (n:ScalarGraph) WITH count(n) AS count RETURN 'node' AS kind, 'ScalarGraph' AS name, count
  UNION ALL
  MATCH (n:Step) WITH count(n) AS count RETURN 'node' AS kind, 'Step' AS name, count
  UNION ALL
  MATCH (n:Trace) WITH count(n) AS count RETURN 'node' AS kind, 'Trace' AS name, count
  UNION ALL
  MATCH (n:Vertex) WITH count(n) AS count RETURN 'node' AS kind, 'Vertex' AS name, count
  UNION ALL
  MATCH ()-[r]->() WITH count(r) AS count RETURN 'relationship' AS kind, '*' AS name, count
  UNION ALL
  MATCH ()-[r:BELONGS_TO]->() WITH count(r) AS count RETURN 'relationship' AS kind, 'BELONGS_TO' AS name, count
  UNION ALL
  MATCH ()-[r:CARRIES]->() WITH count(r) AS count RETURN 'relationship' AS kind, 'CARRIES' AS name, count
  UNION ALL
  MATCH ()-[r:CROSSES]->() WITH count(r) AS count RETURN 'relationship' AS kind, 'CROSSES' AS name, count
  UNION ALL
  MATCH ()-[r:DOMINANT]->() WITH count(r) AS count RETURN 'relationship' AS kind, 'DOMINANT' AS name, count
  UNION ALL
  MATCH ()-[r:EDGE]->() WITH count(r) AS count RETURN 'relationship' AS kind, 'EDGE' AS name, count
  UNION ALL
  MATCH ()-[r:EPOCH_SHARE]->() WITH count(r) AS count RETURN 'relationship' AS kind, 'EPOCH_SHARE' AS name, count
  UNION ALL
  MATCH ()-[r:FOLLOWS]->() WITH count(r) AS count RETURN 'relationship' AS kind, 'FOLLOWS' AS name, count
  UNION ALL
  MATCH ()-[r:HAS]->() WITH count(r) AS count RETURN 'relationship' AS kind, 'HAS' AS name, count
  UNION ALL
  MATCH ()-[r:HAS_EPOCH]->() WITH count(r) AS count RETURN 'relationship' AS kind, 'HAS_EPOCH' AS name, count
  UNION ALL
  MATCH ()-[r:HAS_SCALAR]->() WITH count(r) AS count RETURN 'relationship' AS kind, 'HAS_SCALAR' AS name, count
  UNION ALL
  MATCH ()-[r:HAS_SCALARS]->() WITH count(r) AS count RETURN 'relationship' AS kind, 'HAS_SCALARS' AS name, count
  UNION ALL
  MATCH ()-[r:HAS_STEP]->() WITH count(r) AS count RETURN 'relationship' AS kind, 'HAS_STEP' AS name, count
  UNION ALL
  MATCH ()-[r:HAS_TRACE]->() WITH count(r) AS count RETURN 'relationship' AS kind, 'HAS_TRACE' AS name, count
  UNION ALL
  MATCH ()-[r:IN]->() WITH count(r) AS count RETURN 'relationship' AS kind, 'IN' AS name, count
  UNION ALL
  MATCH ()-[r:LEFT]->() WITH count(r) AS count RETURN 'relationship' AS kind, 'LEFT' AS name, count
  UNION ALL
  MATCH ()-[r:NEXT]->() WITH count(r) AS count RETURN 'relationship' AS kind, 'NEXT' AS name, count
  UNION ALL
  MATCH ()-[r:OF]->() WITH count(r) AS count RETURN 'relationship' AS kind, 'OF' AS name, count
  UNION ALL
  MATCH ()-[r:OFFERS]->() WITH count(r) AS count RETURN 'relationship' AS kind, 'OFFERS' AS name, count
  UNION ALL
  MATCH ()-[r:ON]->() WITH count(r) AS count RETURN 'relationship' AS kind, 'ON' AS name, count
  UNION ALL
  MATCH ()-[r:PART_OF]->() WITH count(r) AS count RETURN 'relationship' AS kind, 'PART_OF' AS name, count
  UNION ALL
  MATCH ()-[r:TAKES]->() WITH count(r) AS count RETURN 'relationship' AS kind, 'TAKES' AS name, count
  UNION ALL
  MATCH ()-[r:TOOK]->() WITH count(r) AS count RETURN 'relationship' AS kind, 'TOOK' AS name, count
  UNION ALL
  MATCH ()-[r:TOP]->() WITH count(r) AS count RETURN 'relationship' AS kind, 'TOP' AS name, count
  UNION ALL
  MATCH ()-[r:VISITS]->() WITH count(r) AS count RETURN 'relationship' AS kind, 'VISITS' AS name, count
  UNION ALL
  MATCH ()-[r:WEIGHS]->() WITH count(r) AS count RETURN 'relationship' AS kind, 'WEIGHS' AS name, count
}
RETURN kind, name, count
ORDER BY kind, count DESC, name
