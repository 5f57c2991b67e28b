SELECT count(*) FROM experiments.reference WHERE instance_key = ANY ($1)
