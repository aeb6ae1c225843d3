"""`bench speed`: time and memory of the parts of a model. Nothing that restores, trains or scores imports this."""
