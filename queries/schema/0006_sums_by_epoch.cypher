// What chosen runs took and carried in one epoch, without going through all the epochs of each.

CREATE INDEX epoch_share_run_epoch IF NOT EXISTS FOR ()-[r:EPOCH_SHARE]-() ON (r.run, r.epoch, r.mode, r.batch);
CREATE INDEX took_run_epoch IF NOT EXISTS FOR ()-[r:TOOK]-() ON (r.run, r.epoch, r.parameter, r.mode, r.batch);
