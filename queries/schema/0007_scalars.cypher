// Scalar graphs of steps at scalar granularity.

CREATE CONSTRAINT scalar_graph_key IF NOT EXISTS FOR (n:ScalarGraph) REQUIRE n.key IS UNIQUE;
CREATE CONSTRAINT scalar_key IF NOT EXISTS FOR (n:Scalar) REQUIRE n.key IS UNIQUE;
