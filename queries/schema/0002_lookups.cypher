// Ways in that questions use: a run's steps in order, runs by what they are, parts of a model by name.

CREATE INDEX step_run_step IF NOT EXISTS FOR (n:Step) ON (n.run, n.step);
CREATE INDEX run_status IF NOT EXISTS FOR (n:Run) ON (n.status);
CREATE INDEX run_workload IF NOT EXISTS FOR (n:Run) ON (n.workload);
CREATE INDEX run_started IF NOT EXISTS FOR (n:Run) ON (n.started);
CREATE INDEX architecture_name IF NOT EXISTS FOR (n:Architecture) ON (n.name);
CREATE INDEX component_path IF NOT EXISTS FOR (n:Component) ON (n.path);
CREATE INDEX parameter_name IF NOT EXISTS FOR (n:Parameter) ON (n.name);
CREATE INDEX epoch_run_epoch IF NOT EXISTS FOR (n:Epoch) ON (n.run, n.epoch);
