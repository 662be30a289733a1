"""Answer the routes that show or change relations, entities and graph views."""
