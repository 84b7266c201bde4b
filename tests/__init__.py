"""The tests: a folder for each package, and the modules that they share."""
