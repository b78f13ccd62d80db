// What many runs took and carried in one epoch, without going through all the epochs of each.

CREATE INDEX epoch_share_epoch IF NOT EXISTS FOR ()-[r:EPOCH_SHARE]-() ON (r.epoch, r.mode, r.batch);
CREATE INDEX took_epoch_parameter IF NOT EXISTS FOR ()-[r:TOOK]-() ON (r.epoch, r.parameter, r.mode, r.batch);
