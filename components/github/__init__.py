"""GitHub: Actions secrets (delivered by pulumi-github) and the workflow runs that use them."""
