-- The owner's part: nobody but the two roles sees our schema.
REVOKE ALL ON SCHEMA experiments FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA experiments FROM PUBLIC;
