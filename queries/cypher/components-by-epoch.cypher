// question = "Which components most often carry the dominant gradient path, epoch by epoch?"
// group = "one run"
// about = "A component on every way to the loss has share 1 and says nothing; then look at its foreign share and its win rate. The model itself is left out."
//
// [parameters]
// run = { type = "text", default_from = "run-ids.run", complete_from = "run-ids.run", about = "Id of the run; if left out, the newest one that has traced steps." }
// mode = { type = "text", default_from = "traced-modes.mode", complete_from = "traced-modes.mode", about = "How traces choose; if left out, greedy where the run has it." }
// batch = { type = "text", default_from = "traced-modes.batch", complete_from = "traced-modes.batch", about = "Batch that was traced, training or probe; if left out, training where the run has it." }
// epoch = { type = "int", min = 0, optional = true, complete_from = "epochs.epoch", about = "Only this epoch." }
// order_by = { type = "text", default = "share", choices = ["share", "foreign_share", "win_rate"], about = "Column by which components are ranked." }
// limit = { type = "int", default = 10, min = 1, about = "Components an epoch at most." }
//
// [columns]
// epoch = { type = "int", unit = "epoch", about = "Number of the pass over the data." }
// rank = { type = "int", unit = "rank", about = "1 for the first component of the epoch." }
// component = { type = "text", about = "Path of the component; what its parts carry counts for it too." }
// share = { type = "float", unit = "fraction", about = "Mass of the traces that cross it over the mass of all traces, summed over the epoch's steps." }
// foreign_share = { type = "float", unit = "fraction", about = "The part of the share that comes from parameters outside the component." }
// win_rate = { type = "float", unit = "fraction", about = "Of the forks where traces could enter it or pass by, how many they took into it.", null = "there was no such fork" }
// visits = { type = "float", unit = "visits a trace", about = "How often a trace enters it, in the mean." }
// steps = { type = "int", unit = "count", about = "Traced steps of the epoch." }
//
// [example]
// epoch = 0
// rank = 1
// component = "lstm.l0.carry"
// share = 0.81
// foreign_share = 0.74
// win_rate = 0.92
// visits = 3.4
// steps = 20
MATCH (:Run {id: $run})-[e:EPOCH_SHARE]->(c)
// Without the label of c: with it, the planner goes through all components of the store.
WHERE e.mode = $mode AND e.batch = $batch AND ($epoch IS NULL OR e.epoch = $epoch) AND c.depth > 0
WITH e.epoch AS epoch, c.path AS component, sum(e.steps) AS steps, sum(e.visits * e.steps) AS visits,
     sum(e.mass) AS mass, sum(e.foreign) AS foreign, sum(e.total) AS total, sum(e.contested) AS contested,
     sum(e.won) AS won
WITH epoch, component, steps, visits / steps AS visits,
     CASE WHEN total > 0 THEN mass / total ELSE 0.0 END AS share,
     CASE WHEN total > 0 THEN foreign / total ELSE 0.0 END AS foreign_share,
     CASE WHEN contested > 0 THEN toFloat(won) / contested END AS win_rate
// Rounded, so that components on the same ways come in the order of their names and not of their rounding errors.
ORDER BY epoch,
         round(CASE $order_by WHEN 'share' THEN share WHEN 'foreign_share' THEN foreign_share
               ELSE coalesce(win_rate, -1.0) END, 12) DESC,
         round(share, 12) DESC, component
WITH epoch, collect({component: component, share: share, foreign_share: foreign_share, win_rate: win_rate,
                     visits: visits, steps: steps})[..$limit] AS best
UNWIND range(1, size(best)) AS rank
WITH epoch, rank, best[rank - 1] AS row
RETURN epoch, rank, row.component AS component, row.share AS share, row.foreign_share AS foreign_share,
       row.win_rate AS win_rate, row.visits AS visits, row.steps AS steps
ORDER BY epoch, rank
