"""One module for each command: read arguments, call the API, print."""
