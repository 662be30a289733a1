"""Handle the jobs of the enricher's streams: enrich, ask and relate."""
