-- A million instances are asked for a piece at a time.
DECLARE archived_instances NO SCROLL CURSOR FOR
SELECT instance_key, reference_rows FROM experiments.trial WHERE sweep_id = {sweep}
UNION SELECT instance_key, reference_rows FROM experiments.trial_attempt WHERE sweep_id = {sweep}
