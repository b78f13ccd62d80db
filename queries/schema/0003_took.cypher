// The routes that a run's traces took, summed over each epoch.

CREATE CONSTRAINT took_key IF NOT EXISTS FOR ()-[r:TOOK]-() REQUIRE r.key IS UNIQUE;
