-- Whoever works at sweeps is told at once that a sweep's state has changed, whoever changed it; who was not listening looks now and then.

CREATE FUNCTION experiments.tell_of_sweep() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('experiments_sweep', NEW.id::text);
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION experiments.tell_of_sweep IS 'Sends the sweep''s number to the channel experiments_sweep, when its transaction commits.';

CREATE TRIGGER sweep_made AFTER INSERT ON experiments.sweep
FOR EACH ROW EXECUTE FUNCTION experiments.tell_of_sweep();

-- Every commit of a shard sets the state, nearly always to what it was: the condition is looked at before the function is called.
CREATE TRIGGER sweep_state_changed AFTER UPDATE OF state ON experiments.sweep
FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION experiments.tell_of_sweep();
