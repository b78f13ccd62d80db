// Sums over an epoch know their run, so that an index finds those of one epoch of chosen runs.

MATCH (r:Run)-[e:EPOCH_SHARE]->() SET e.run = r.id;
MATCH (r:Run)-[t:TOOK]->() SET t.run = r.id;
