"""How the key of a customer's volume comes from the customer, and from nobody else."""
