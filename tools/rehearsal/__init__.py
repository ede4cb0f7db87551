"""The rehearsal: `make rehearse`."""
