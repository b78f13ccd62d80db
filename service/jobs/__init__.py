"""Runs by workers: tickets in a queue, segments under a lease, and a watch over both. Only `app` and `tasks` know Celery."""
