"""Networks, in torch: what :mod:`irepa.architectures` builds, and the parts that other plug-ins train."""
