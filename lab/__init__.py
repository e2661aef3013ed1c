"""Real kernels for tests: a Debian machine with SELinux enforcing, and a tiny guest to run inside or on the host."""
