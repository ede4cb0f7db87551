"""What the workflows in .github/workflows run: a preview with a comment, an update, a nightly check. Needs the program's environment only."""
