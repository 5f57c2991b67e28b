SELECT loss, max_logit, rms_logit, seconds, gradient, forward, rows FROM experiments.reference WHERE instance_key = $1
