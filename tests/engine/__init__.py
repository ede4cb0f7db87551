"""The program on the real engine and the sandbox."""
