SELECT instance_key FROM experiments.reference WHERE instance_key = ANY ($1)
