-- Of several sweeps that run, one may be more urgent than the others.

ALTER TABLE experiments.sweep ADD COLUMN priority int NOT NULL DEFAULT 0 CHECK (priority BETWEEN -100 AND 100);
COMMENT ON COLUMN experiments.sweep.priority IS 'Larger goes first, on every silo that attends several sweeps; those beneath keep one lane-second in twenty.';

-- Silos that attend the sweep are told, as they are of its state.
CREATE TRIGGER sweep_priority_changed AFTER UPDATE OF priority ON experiments.sweep
FOR EACH ROW WHEN (OLD.priority IS DISTINCT FROM NEW.priority) EXECUTE FUNCTION experiments.tell_of_sweep();
