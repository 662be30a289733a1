"""Answer the routes of operators: health, queues, dead letters, runs, models, events."""
