-- The role's own limit is for people's SQL; an answer of ours may take as long as a million rows take.
SET statement_timeout = 0
