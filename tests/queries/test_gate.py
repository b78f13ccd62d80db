"""What the read-only gate lets through and what it refuses, against a real server."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from neo4j import Driver

from gradtrace.queries import Library, registry
from gradtrace.queries.gate import check_plan, check_text
from gradtrace.tracer.errors import QueryError, QueryRefusedError
from tests.queries.conftest import connected
from tests.queries.worlds import Run
from tests.synthetic import run_record

ALLOWED = [
    "RETURN 1 AS x",
    "RETURN 1 AS x;",
    "MATCH (r:Run) RETURN r.id AS id ORDER BY id LIMIT 3",
    "// a comment; with CREATE (n)\nMATCH (n) RETURN count(n) AS n /* LOAD CSV */",
    "RETURN 'CREATE (n) // ; EXPLAIN LOAD CSV' AS text",
    "RETURN \"it's; DROP\" AS text, 'C:\\\\x' AS path",
    "MATCH (n {use: 1}) RETURN n.`use` AS use",
    "WITH 1 AS use RETURN use",
    "MATCH (n) RETURN n.create AS `delete`, n.set AS `merge; drop`",
    "CALL db.labels() YIELD label RETURN label",
    "CALL db.labels()",
    "CALL db.schema.visualization()",
    "MATCH (a:Run)-[:IN]->(b) RETURN a, b",
    "MATCH p = (a:Step)-[*1..3]->(b) RETURN p LIMIT 5",
    "MATCH p = ANY SHORTEST (a:Run) (()-[]->())+ (b:Step) RETURN p",
    "MATCH p = SHORTEST 2 (a:Run) ((x)-[e]->(y))+ (b:Step) RETURN p",
    "MATCH (a:Vertex) ((x)-[e:EDGE]->(y) WHERE e.idx > 3)+ (b {kind: 'loss'}) RETURN size(e) AS n",
    "MATCH (n) WHERE EXISTS { (n)-->() } AND COUNT { (n)<--() } > 2 RETURN n",
    "MATCH (n) RETURN COLLECT { MATCH (n)-->(m) RETURN m.name ORDER BY m.name LIMIT 2 } AS names",
    "UNWIND range(1, 100000000) AS x RETURN x LIMIT 3",
    "RETURN reduce(s = 0, i IN range(0, size([1, 2, 3]) - 1) | s + i) AS s",
    "UNWIND [3, 1, 2] AS x WITH x ORDER BY x RETURN collect(x) AS xs",
    "MATCH (n:Run) RETURN count(n) AS n UNION ALL MATCH (n:Step) RETURN count(n) AS n",
    "CALL () { MATCH (n:Run) RETURN n LIMIT 1 } RETURN n",
    "OPTIONAL MATCH (r:Run {id: $id}) RETURN r.id AS id",
    "RETURN date() AS d, datetime.truncate('day', datetime()) AS t, duration.between(date(), date()) AS u",
    "RETURN toUpper('ü') AS u, point.distance(point({x: 1, y: 2}), point({x: 1, y: 3})) AS d",
    "CYPHER 5 MATCH (n:Run) RETURN n.id AS id",
    "CYPHER 25 MATCH (n:Run) RETURN n.id AS id",
    "MATCH (n:Run|Step) RETURN labels(n) AS labels, count(*) AS n",
    "MATCH (s:Step) WHERE s.run = $id AND s.step > 3 RETURN s.step AS step SKIP 1 LIMIT 2",
    "MATCH (a:Run) MATCH (b:Run) WHERE a.workload = b.workload AND a.id < b.id RETURN a.id AS a, b.id AS b",
    "MATCH (n) WHERE elementId(n) = $id RETURN n",
    "MATCH ()-[r:EDGE|ON]->() RETURN type(r) AS t, count(*) AS n",
    "MATCH (n:Run) RETURN n { .id, .status } AS run",
    "MATCH (n:Run) RETURN DISTINCT n.status AS s ORDER BY s",
]

REFUSED = {
    "writes": [
        "CREATE (n:X)",
        "create (n:X) return n",
        "MERGE (n:X {a: 1}) RETURN n",
        "MATCH (n) SET n.x = 1",
        "MATCH (n) SET n += $map",
        "MATCH (n) SET n = $map",
        "MATCH (n) SET n:Label",
        "MATCH (n) REMOVE n.x",
        "MATCH (n) REMOVE n:Run",
        "MATCH (n) DELETE n",
        "MATCH (n) DETACH DELETE n",
        "MATCH (n) NODETACH DELETE n",
        "MATCH ()-[r]->() DELETE r",
        "MATCH (n) FOREACH (i IN [1] | SET n.x = i)",
        "FOREACH (i IN [1] | CREATE (:X))",
        "INSERT (n:X)",
        "MATCH (n:Run) CALL (n) { SET n.x = 1 } RETURN n",
        "MATCH (n:Run) WITH n LIMIT 1 CREATE (n)-[:IN]->(:X)",
        "RETURN 1 AS x UNION MATCH (n) SET n.y = 2 RETURN 1 AS x",
        "/* read only, honest */ CREATE (n) // MATCH (n) RETURN n",
        "CREATE\n(n)",
        "CRE/**/ATE (n)",
        "MATCH (n) WHERE n.name = '' OR 1 = 1 DETACH DELETE n //' RETURN n",
    ],
    "schema": [
        "CREATE INDEX x FOR (n:X) ON (n.y)",
        "CREATE CONSTRAINT x FOR (n:X) REQUIRE n.y IS UNIQUE",
        "CREATE FULLTEXT INDEX x FOR (n:X) ON EACH [n.y]",
        "DROP INDEX step_run_step",
        "DROP CONSTRAINT run_id IF EXISTS",
        "CALL db.createLabel('X')",
        "CALL db.awaitIndexes(1)",
    ],
    "server": [
        "LOAD CSV FROM 'http://127.0.0.1:9/x.csv' AS row RETURN row",
        "LOAD CSV WITH HEADERS FROM 'file:///etc/passwd' AS row RETURN row",
        "CALL () { LOAD CSV FROM 'http://127.0.0.1:9/' AS row RETURN row } RETURN row",
        "MATCH (r:Run) WITH r.id AS id LOAD CSV FROM 'http://127.0.0.1:9/?' + id AS row RETURN row",
        "TERMINATE TRANSACTIONS 'neo4j-transaction-1'",
        "SHOW TRANSACTIONS",
        "SHOW TRANSACTIONS YIELD * RETURN *",
        "SHOW SETTINGS",
        "SHOW SETTINGS YIELD name, value RETURN name, value",
        "SHOW FUNCTIONS",
        "SHOW PROCEDURES",
        "SHOW INDEXES",
        "SHOW CONSTRAINTS",
        "SHOW DATABASES",
        "SHOW USERS",
        "SHOW CURRENT USER",
        "ALTER CURRENT USER SET PASSWORD FROM 'a' TO 'longenough'",
        "CREATE USER mallory SET PASSWORD 'longenough'",
        "DROP USER neo4j",
        "CREATE DATABASE other",
        "STOP DATABASE neo4j",
    ],
    "procedures": [
        "CALL dbms.listConfig()",
        "CALL dbms.listConfig",
        "CALL dbms.listConfig() YIELD name, value RETURN name, value",
        "CALL dbms.queryJmx('*:*') YIELD name RETURN name",
        "CALL `dbms`.`listConfig`()",
        "CALL dbms . listConfig ( )",
        "CALL db /* labels() */ .ping()",
        "MATCH (r:Run) CALL dbms.listConfig() YIELD name RETURN name",
        "CALL db.index.fulltext.queryNodes('x', 'y') YIELD node RETURN node",
        "CALL tx.getMetaData()",
        "CALL tx.setMetaData({a: 1})",
        "CALL dbms.setConfigValue('x', 'y')",
        "CALL apoc.load.json('http://127.0.0.1:9/') YIELD value RETURN value",
        "CALL apoc.cypher.runWrite('CREATE (n)', {}) YIELD value RETURN value",
        "RETURN apoc.util.sleep(1000) AS x",
        "RETURN `apoc`.`text`.`join`(['a'], '') AS x",
        "RETURN graph.names() AS x",
    ],
    "transactions": [
        "UNWIND [1, 2] AS x CALL (x) { RETURN x AS y } IN TRANSACTIONS RETURN y",
        "UNWIND [1, 2] AS x CALL (x) { CREATE (:X {x: x}) } IN TRANSACTIONS OF 1 ROW",
        "MATCH (n) CALL (n) { DETACH DELETE n } IN 2 CONCURRENT TRANSACTIONS",
        "RETURN 1 AS x; MATCH (n) DETACH DELETE n",
        "RETURN 1 AS x; RETURN 2 AS x",
        "RETURN ';' AS x;;RETURN 2 AS y",
        "RETURN 1 AS x /* ; */ ; CREATE (n)",
    ],
    "prefixes": [
        "EXPLAIN MATCH (n) RETURN n",
        "PROFILE MATCH (n) RETURN n",
        "PROFILE CREATE (n)",
        "profile match (n) return n",
        "/* PROFILE */ PROFILE MATCH (n) RETURN n",
        "// first line\nEXPLAIN MATCH (n) RETURN n",
        "CYPHER 5 PROFILE MATCH (n) RETURN n",
        "CYPHER 25 EXPLAIN CREATE (n)",
        "CYPHER runtime=parallel MATCH (n) RETURN n",
        "CYPHER 5 planner=dp MATCH (n) RETURN n",
        "CYPHER CYPHER 5 RETURN 1 AS x",
        "\\u0050ROFILE MATCH (n) RETURN n",
        "RETURN '\\u0027 AS x, 1 AS y //'",
        "MATCH (n) WHERE n.a = '\\U0027 RETURN n' RETURN n",
        "RETURN 1 AS x\x00",
    ],
    "databases": [
        "USE system SHOW USERS",
        "USE neo4j MATCH (n) RETURN n",
        "use `system` RETURN 1 AS x",
        "/**/USE system RETURN 1 AS x",
        "CYPHER 5 USE system RETURN 1 AS x",
        "CALL () { USE system RETURN 1 AS x } RETURN x",
        "RETURN 1 AS x UNION USE system RETURN 1 AS x",
        "RETURN 1 AS x UNION ALL USE graph.byName('system') RETURN 1 AS x",
    ],
    "runaways": [
        "RETURN [x IN range(1, 1000000000) | x] AS xs",
        "RETURN reduce(s = 0, i IN range(0, 99999999999) | s + i) AS s",
        "RETURN size(range(1, 1e12)) AS n",
        "WITH range(0, 0x7fffffffffff) AS r RETURN r",
        "RETURN any(x IN range(1, $huge) WHERE x < 0) AS a",
        "RETURN all(x IN range(-1_000_000_000, 0) WHERE x < 0) AS a",
        "MATCH (n) WHERE n.x IN range(1, 2 * 500000000) RETURN n",
        "RETURN 1 AS x //" + "x" * 200_000,
    ],
}
ATTEMPTS = [pytest.param(text, id=f"{kind}-{n}") for kind, texts in REFUSED.items() for n, text in enumerate(texts)]
PARAMS: dict[str, Any] = {"id": "run-1", "map": {"a": 1}, "huge": 10**12}


@pytest.fixture(scope="module")
def guarded(neo4j_server: Any) -> Iterator[tuple[Library, Driver]]:
    """A library over a store with one run, and a driver to look behind it."""
    from tests.queries.conftest import emptied, store

    with connected(neo4j_server) as driver:
        emptied(driver)
        store(neo4j_server, {"run-1": Run(run_record("run-1"), ())})
        yield Library(driver, timeout=20), driver


def holdings(driver: Driver) -> list[Any]:
    """Everything that an attempt could have changed."""
    return [
        driver.execute_query(text, database_="neo4j").records
        for text in (
            "MATCH (n) RETURN labels(n) AS l, properties(n) AS p ORDER BY elementId(n)",
            "MATCH ()-[r]->() RETURN type(r) AS t, properties(r) AS p ORDER BY elementId(r)",
            "SHOW INDEXES YIELD name RETURN name ORDER BY name",
            "SHOW CONSTRAINTS YIELD name RETURN name ORDER BY name",
            "SHOW USERS YIELD user RETURN user ORDER BY user",
        )
    ]


def test_there_are_enough_attempts() -> None:
    assert len(ATTEMPTS) >= 60
    assert len({p.values[0] for p in ATTEMPTS}) == len(ATTEMPTS)


@pytest.mark.parametrize("text", ATTEMPTS)
def test_refused(guarded: tuple[Library, Driver], text: str) -> None:
    library, _ = guarded
    with pytest.raises(QueryError) as caught:
        library.cypher(text, PARAMS)
    # A few are no Cypher at all to this server: commands of Neo4j Enterprise, a word with a comment in it.
    if not isinstance(caught.value, QueryRefusedError):
        assert "could not run" in str(caught.value) or "not Cypher" in str(caught.value)


def test_attempts_change_nothing(guarded: tuple[Library, Driver]) -> None:
    library, driver = guarded
    before = holdings(driver)
    refused = 0
    for attempt in ATTEMPTS:
        with pytest.raises(QueryError) as caught:
            library.cypher(str(attempt.values[0]), PARAMS)
        refused += isinstance(caught.value, QueryRefusedError)
    assert refused >= 90
    assert holdings(driver) == before


@pytest.mark.parametrize("text", ALLOWED)
def test_allowed(guarded: tuple[Library, Driver], text: str) -> None:
    library, _ = guarded
    answer = library.cypher(text, PARAMS)
    assert answer.columns and not answer.truncated


def test_no_url_is_fetched(guarded: tuple[Library, Driver]) -> None:
    asked: list[str] = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"a,b\n")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/secret"
        try:
            for text in ("LOAD CSV FROM $url AS row RETURN row", f"LOAD CSV FROM '{url}' AS row RETURN row"):
                with pytest.raises(QueryRefusedError, match="LOAD CSV makes the server fetch"):
                    guarded[0].cypher(text, {"url": url})
            assert asked == []
            guarded[0].cypher("LOAD CSV FROM $url AS row RETURN row", {"url": url}, write=True)
            assert asked == ["/secret"], "the listener was never listening"
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    "value",
    [
        *("' OR 1=1 //", "\\u0027", "\x00", "😀\u202e"),
        *(pytest.param(v, marks=pytest.mark.full) for v in ("x'}) DETACH DELETE n //", "`; CREATE (n)", "$x")),
        pytest.param("a" * 10_000, marks=pytest.mark.full),
    ],
)
def test_values_of_parameters_are_only_values(guarded: tuple[Library, Driver], value: str) -> None:
    library, driver = guarded
    before = holdings(driver)
    assert library.cypher("RETURN $value AS value", {"value": value}).rows == [{"value": value}]
    for name, question in registry().items():
        given = {p.name: value for p in question.parameters.values() if p.type == "text" and not p.choices}
        if given:
            answer = library.run(name, **given)
            assert answer.rows == [] and answer.parameters[next(iter(given))] == value
    assert holdings(driver) == before


def test_questions_pass_the_gate_and_use_no_plugin(guarded: tuple[Library, Driver]) -> None:
    for question in registry().values():
        for text in (question.cypher, question.subgraph):
            if text is not None:
                check_text(text)
                assert "apoc" not in text.lower() and "gds." not in text.lower()
                _, summary, _ = guarded[1].execute_query("EXPLAIN " + text, database_="neo4j")
                check_plan(summary.query_type, summary.plan)


@pytest.mark.parametrize(
    "operator",
    ["NodeUniqueIndexSeekByRange", "NodeByLabelScan", "DirectedUnionRelationshipTypesScan", "NodeByElementIdSeek"],
)
def test_every_way_to_find_a_start_is_allowed(operator: str) -> None:
    check_plan("r", {"operatorType": "ProduceResults@neo4j", "children": [{"operatorType": f"{operator}@neo4j"}]})


@pytest.mark.parametrize(
    "operator", ["Create@neo4j", "TransactionApply@neo4j", "BrandNewOperator@neo4j", "ShowX@neo4j", ""]
)
def test_operators_that_are_not_known_to_read_are_refused_wherever_they_stand(operator: str) -> None:
    reading = {"operatorType": "ProduceResults@neo4j", "args": {}, "children": [{"operatorType": "Limit@neo4j"}]}
    check_plan("r", reading)
    deep = {"operatorType": "Apply@neo4j", "children": [reading, {"operatorType": operator, "args": {}}]}
    with pytest.raises(QueryRefusedError):
        check_plan("r", {"operatorType": "ProduceResults@neo4j", "children": [deep]})
    for query_type in ("w", "rw", "s", None):
        with pytest.raises(QueryRefusedError):
            check_plan(query_type, reading)
    with pytest.raises(QueryRefusedError, match="no plan"):
        check_plan("r", None)


@pytest.mark.parametrize(
    "text", ["", "  ", "// only a comment", ";", "RETURN 'a", "RETURN `a", "RETURN 1 /* never closed", 'RETURN "']
)
def test_incomplete_text_is_told(text: str) -> None:
    with pytest.raises(QueryError, match=r"empty|never closed"):
        check_text(text)
