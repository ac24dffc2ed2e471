"""An order comes in: what was asked for, the rules, the choice of workflows, and submission."""
