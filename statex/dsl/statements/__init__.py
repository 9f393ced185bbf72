"""What each statement does to the state; `STATEMENTS` finds the function of a node."""
