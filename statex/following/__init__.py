"""What stands beside a state, knows its parameters, and goes through the same plan: optimizers and averages."""
