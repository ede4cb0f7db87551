"""The sandbox keeps to the contracts of the systems that it stands in for."""
