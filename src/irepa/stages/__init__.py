"""One module per stage, each with ``run(context)``: reads records, writes files, returns the metrics of its record."""
