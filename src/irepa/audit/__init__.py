"""The audit: claims, the evidence for them, rules fixed in advance, and verdicts."""
