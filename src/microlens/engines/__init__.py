"""Where per-item work runs: in processes of this machine, or as Ray Data jobs on a cluster."""
