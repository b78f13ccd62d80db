"""The store's schema: numbered, checksummed migrations, applied in order."""

from gradtrace.queries.schema.migrations import Migration as Migration
from gradtrace.queries.schema.migrations import ensure_schema as ensure_schema
from gradtrace.queries.schema.migrations import packaged_migrations as packaged_migrations
from gradtrace.queries.schema.migrations import schema_version as schema_version
