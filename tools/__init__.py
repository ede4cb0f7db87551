"""Tools of this project: the engine's build, environments, the rehearsal."""
