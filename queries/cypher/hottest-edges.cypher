// question = "Which operator edges does most gradient flow through?"
// group = "one run"
// about = "Summed over the run, or over one epoch; steps with NaN or an infinity on an edge add nothing there. Edges of several graphs are one where their ends have equal names."
//
// [parameters]
// run = { type = "text", default_from = "run-ids.run", complete_from = "run-ids.run", about = "Id of the run; if left out, the newest one that has traced steps." }
// mode = { type = "text", default_from = "traced-modes.mode", complete_from = "traced-modes.mode", about = "How traces choose; if left out, greedy where the run has it." }
// batch = { type = "text", default_from = "traced-modes.batch", complete_from = "traced-modes.batch", about = "Batch that was traced, training or probe; if left out, training where the run has it." }
// epoch = { type = "int", min = 0, optional = true, complete_from = "epochs.epoch", about = "Only this epoch." }
// order_by = { type = "text", default = "flow", choices = ["flow", "peak", "traffic", "mass"], about = "Column by which edges are ranked." }
// limit = { type = "int", default = 20, min = 1, about = "Edges at most." }
//
// [columns]
// source = { type = "text", about = "Name of the operator or parameter that was read." }
// target = { type = "text", about = "Name of the operator that read it." }
// slot = { type = "int", unit = "position", about = "Which operand of the target it is." }
// source_component = { type = "text", about = "Component of the source.", null = "it belongs to none" }
// target_component = { type = "text", about = "Component of the target.", null = "it belongs to none" }
// flow = { type = "float", unit = "gradient", about = "Sum of |w·g| over the scalar edges and the steps." }
// peak = { type = "float", unit = "gradient", about = "Largest |w·g| of any scalar edge at any step." }
// traffic = { type = "int", unit = "traces", about = "Traces that cross it, summed over the steps." }
// mass = { type = "float", unit = "gradient", about = "Sum of |gradient| of the parameter scalars whose traces cross it, over the steps." }
// share = { type = "float", unit = "fraction", about = "mass over the mass of all traces." }
// steps = { type = "int", unit = "count", about = "Traced steps that had this edge." }
// graphs = { type = "int", unit = "count", about = "Graphs of the run that have this edge (batches of other sizes make graphs of their own)." }
//
// [example]
// source = "lstm.l0.cell/Add#31"
// target = "lstm.l0.hidden/Tanh#31"
// slot = 0
// source_component = "lstm.l0.cell"
// target_component = "lstm.l0.cell"
// flow = 31.9
// peak = 0.07
// traffic = 90112
// mass = 12.7
// share = 0.81
// steps = 60
// graphs = 1
MATCH (x:Epoch)
WHERE x.run = $run AND x.epoch >= 0 AND x.mode = $mode AND x.batch = $batch AND ($epoch IS NULL OR x.epoch = $epoch)
WITH x.graph AS fingerprint, sum(x.steps) AS steps,
     collect({flow: x.flow, peak: x.peak, traffic: x.traffic, mass: x.mass}) AS parts
MATCH (:Graph {fingerprint: fingerprint})-[:HAS]->(a:Vertex)-[e:EDGE]->(b:Vertex)
WITH a.name AS source, b.name AS target, e.slot AS slot, a.component AS source_component,
     b.component AS target_component, a.kind = 'parameter' AS starts, fingerprint, steps,
     reduce(v = 0.0, p IN parts | v + p.flow[e.idx]) AS flow,
     reduce(v = 0.0, p IN parts | CASE WHEN p.peak[e.idx] > v THEN p.peak[e.idx] ELSE v END) AS peak,
     reduce(v = 0, p IN parts | v + p.traffic[e.idx]) AS traffic,
     reduce(v = 0.0, p IN parts | v + p.mass[e.idx]) AS mass
WITH source, target, slot, source_component, target_component, starts, sum(flow) AS flow, max(peak) AS peak,
     sum(traffic) AS traffic, sum(mass) AS mass, sum(steps) AS steps, count(DISTINCT fingerprint) AS graphs
WITH collect({source: source, target: target, slot: slot, source_component: source_component,
              target_component: target_component, flow: flow, peak: peak, traffic: traffic, mass: mass, steps: steps,
              graphs: graphs}) AS edges,
     sum(CASE WHEN starts THEN mass ELSE 0.0 END) AS total
UNWIND edges AS x
RETURN x.source AS source, x.target AS target, x.slot AS slot, x.source_component AS source_component,
       x.target_component AS target_component, x.flow AS flow, x.peak AS peak, x.traffic AS traffic, x.mass AS mass,
       CASE WHEN total > 0 THEN x.mass / total ELSE 0.0 END AS share, x.steps AS steps, x.graphs AS graphs
ORDER BY toFloat(x[$order_by]) DESC, source, target, slot
LIMIT $limit
