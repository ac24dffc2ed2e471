"""Workflow definitions and the task graphs made from them: values in, values out, no clock."""
