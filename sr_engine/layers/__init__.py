"""Floor 2: the modules that networks are made of; parameters live here, arithmetic in sr_kernels."""
