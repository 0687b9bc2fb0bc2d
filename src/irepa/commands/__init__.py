"""What the command line answers, one module per command; those with tables print them themselves."""
