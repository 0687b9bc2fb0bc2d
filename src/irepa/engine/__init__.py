"""Networks at work: build the parts of a cell, train, sample, run encoders and judges."""
