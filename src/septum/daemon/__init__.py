"""septumd: the object manager, served on a unix socket to clients whom the kernel identifies."""
