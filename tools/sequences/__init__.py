"""Random sequences of what operators and misfortune do to a stack, on the real engine and the sandbox. `make sequences`."""
