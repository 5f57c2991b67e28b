INSERT INTO experiments.summary SELECT * FROM experiments.summarise($1)
