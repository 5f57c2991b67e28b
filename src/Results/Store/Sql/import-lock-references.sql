-- Between the look at which are known and the copy of the others nobody may store one of them.
LOCK TABLE experiments.reference IN SHARE ROW EXCLUSIVE MODE
