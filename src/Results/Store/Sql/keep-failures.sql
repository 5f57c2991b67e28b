INSERT INTO experiments.summary_failure SELECT * FROM experiments.summarise_failures($1)
